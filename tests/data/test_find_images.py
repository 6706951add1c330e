import os

import pytest

from koa_lightning.data.find_images import find_images
from koa_lightning.errors import InputError


@pytest.fixture
def folder(tmp_path):
    names = ["b/2.PNG", "a/1.jpg", "b/table.csv", ".hidden/3.png", "b/._2.png", "dicom/IM0001", "dicom/notes"]
    for name in [*names, "dicom/1.2.840.77", "dicom/DICOMDIR"]:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(128) + b"DICM" if name.startswith("dicom/") else b"x")
    (tmp_path / "dicom/notes").write_text("DICM stands elsewhere")
    return tmp_path


def test_find_images_in_a_folder(folder):
    found = [file.relative_to(folder).as_posix() for file in find_images(str(folder))]
    assert found == ["a/1.jpg", "b/2.PNG", "dicom/1.2.840.77", "dicom/IM0001"]


def test_find_images_by_pattern_and_by_name(folder):
    assert find_images(f"{folder}/*/*.[jP]*") == [folder / "a/1.jpg", folder / "b/2.PNG"]
    assert find_images(f"{folder}/**/2.*") == [folder / "b/2.PNG"]
    assert find_images(f"{folder}/b/table.csv") == [folder / "b/table.csv"]


@pytest.mark.parametrize("where", ["none", "b/*.jpg", "empty"])
def test_find_images_says_what_it_looked_for(folder, where):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image found .*\.png") as caught:
        find_images(f"{folder}/{where}")
    assert where in str(caught.value)


def test_a_pipe_is_no_image_and_a_link_to_nothing_is_one(tmp_path):
    (tmp_path / "knee.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "lost.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert [file.name for file in find_images(str(tmp_path))] == ["knee.png", "lost.png"]


def test_what_an_earlier_run_wrote_is_left_out(folder):
    everything = find_images(str(folder))
    assert find_images(str(folder), without=folder / "dicom") == everything[:2]
    assert find_images(f"{folder}/**/*", without=folder / "dicom") == everything[:2]
    assert find_images(str(folder / "dicom"), without=folder) == everything[2:]
