import pytest

from koa_lightning.config import folders
from koa_lightning.config.compose import compose


@pytest.fixture
def typed(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: mine.Loss\nclass_weights: none\n")
    (tmp_path / "loss" / "focal.yaml").write_text("_target_: mine.Focal\n")
    (tmp_path / "loss" / "broken.yaml").write_text("a: [")
    folders.use([tmp_path, tmp_path / "not there"])
    yield tmp_path
    folders.use([])


def test_choices_are_those_of_all_folders_and_the_installed_one_wins(typed):
    assert folders.typed() == (typed,)
    assert {"ce", "focal", "mine"} <= set(folders.choices_of("loss"))
    found = {file.stem: content["_target_"] for file, content in folders.contents("loss")}
    assert found["mine"] == "mine.Loss" and found["focal"] == "koa_lightning.losses.focal.Focal"
    assert "broken" not in found  # Hydra says it if it is chosen
    assert compose("train", ["loss=mine"]).loss._target_ == "mine.Loss"
    assert folders.flags() == ["--config-dir", str(typed)]


def test_without_any_there_is_the_installed_one_alone():
    assert folders.all_folders() == (folders.config_dir(),) and folders.flags() == []
    assert "mine" not in folders.choices_of("loss")
    assert folders.find("loss/ce") and folders.find("loss/mine") is None
    assert not any(part.startswith("_") for group in folders.groups() for part in group.split("/"))
