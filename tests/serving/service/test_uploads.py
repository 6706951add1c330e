import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')

from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.uploads import checked_method, file_name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("knee.png", "knee.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\knee.dcm", "knee.dcm"),
        ("a\nb\x1b[31m.png", "ab[31m.png"),
        ("\u202egnp.x", "gnp.x"),
        ("", "image 3"),
        ("..", "image 3"),
        ("/", "image 3"),
        ("größe.png", "größe.png"),
    ],
)
def test_names_of_files(sent, name):
    assert file_name(sent, 3) == name


@given(st.text())
def test_no_name_leaves_its_folder_or_breaks_a_line(sent):
    name = file_name(sent, 1)
    assert name and "/" not in name and "\\" not in name and name.isprintable() and name not in (".", "..")
    assert len(name) <= 200 and name.encode()


def test_a_long_name_keeps_its_ending():
    assert file_name("a" * 500 + ".dicom", 1).endswith("a.dicom")


def test_methods_are_those_of_the_model(about):
    assert checked_method("eigencam", about) == "eigencam"
    with pytest.raises(Problem, match="must be one of gradcam, eigencam"):
        checked_method("nosuch", about)
    with pytest.raises(Problem, match="has no heat maps"):
        checked_method("gradcam", about.model_copy(update={"methods": {}}))
