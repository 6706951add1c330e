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


def test_what_an_earlier_run_wrote_is_omitted(folder):
    everything = find_images(str(folder))
    assert find_images(str(folder), without=folder / "dicom") == everything[:2]
    assert find_images(f"{folder}/**/*", without=folder / "dicom") == everything[:2]
    assert find_images(str(folder / "dicom"), without=folder) == everything[2:]


SYSTEM = [
    "@eaDir/knee.png/SYNOPHOTO_THUMB_M.png", "__MACOSX/knee.png", "#recycle/knee.png", ".Trash/knee.png",
    ".Trash-1000/files/knee.png", ".Trashes/501/knee.png", "lost+found/knee.png", "$RECYCLE.BIN/knee.png",
    "System Volume Information/knee.png", ".Spotlight-V100/knee.png", ".thumbnails/knee.png", "@Recycle/knee.png",
    "found.000/knee.png", "Recycled/knee.png", "#snapshot/knee.png", "._knee.png", "sub/@eaDir/knee.png",
]  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("pattern", ["", "/**/*.png"])
def test_folders_of_the_system_are_skipped_and_said_once(tmp_path, capsys, name, pattern):
    for file in (tmp_path / "knee.png", tmp_path / name):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    for _ in range(2):
        assert find_images(f"{tmp_path}{pattern}") == [tmp_path / "knee.png"]
    said = capsys.readouterr().err
    if not pattern or not name.startswith("."):  # a pattern matches nothing hidden in the first place
        assert said.startswith(f"WARNING: {tmp_path}{pattern}: skipped {tmp_path}/")
        assert said.count("\n") == 1


def test_a_folder_of_the_system_that_is_named_is_searched(tmp_path):
    (tmp_path / "lost+found").mkdir()
    file = tmp_path / "lost+found" / "knee.png"
    file.write_bytes(b"x")
    for where in ("lost+found", "lost+found/*.png", "lost+found/knee.png"):
        assert find_images(f"{tmp_path}/{where}") == [file]
