import os
import threading
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from koa_lightning.config import run_folder
from koa_lightning.errors import InputError

pytestmark = pytest.mark.usefixtures("blank_figures")

OLD = ["model=resnet18", "model.weights=none", "loss=focal", "loss.gamma=3", "optimizer.lr=1e-3", "seed=1"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make a run folder under outputs/."""
    monkeypatch.chdir(tmp_path)

    def make(name="run", time=1000, overrides=OLD, done=False):
        folder = Path("outputs") / name
        (folder / "checkpoints").mkdir(parents=True)
        last = folder / "checkpoints" / "last.ckpt"
        last.touch()
        os.utime(last, (time, time))
        run_folder.remember(folder, overrides)
        if done:
            (folder / run_folder.DONE_FILE).touch()
        return tmp_path / folder

    return make


def read(overrides):
    """The overrides as Hydra reads them."""
    parsed = [OverridesParser.create().parse_override(item) for item in overrides]
    return {item.key_or_group: getattr(item.value(), "text", item.value()) for item in parsed}


def test_without_ckpt_nothing_changes():
    assert run_folder.with_old_overrides(["seed=1", "ckpt=null"]) == ["seed=1", "ckpt=null"]
    assert run_folder.with_old_overrides([]) == []


def test_the_record_of_a_run_that_is_there_is_not_overwritten_before_the_new_line_is_checked(run):
    folder = run()
    typed = [f"out={folder}", "data.batch_size=0"]
    assert run_folder.with_old_overrides(typed) == [*typed, "hydra.output_subdir=null"]
    assert run_folder.with_old_overrides(["out=new"]) == ["out=new"]


def test_old_overrides_come_first_and_typed_ones_win(run):
    folder = run()
    line = run_folder.with_old_overrides(["ckpt=last", "optimizer.lr=1e-4", "trainer.max_epochs=9"])
    assert line[: len(OLD) - 1] == [item for item in OLD if not item.startswith("optimizer.lr")]
    got = read(line)
    assert got["optimizer.lr"] == 1e-4
    assert got["trainer.max_epochs"] == 9
    assert got["ckpt"] == str(folder / "checkpoints" / "last.ckpt")
    assert got["out"] == str(folder)
    assert got["hydra.output_subdir"] is None  # the record stays until the new line has been checked


def test_another_choice_of_a_group_takes_its_old_settings_away(run):
    run()
    assert "loss.gamma" not in read(run_folder.with_old_overrides(["ckpt=last", "loss=ce"]))
    assert "loss.gamma" in read(run_folder.with_old_overrides(["ckpt=last", "loss=focal"]))


def test_last_is_the_newest_unfinished_run(run):
    run("a", 3000, done=True)
    run("b", 1000)
    newest = run("sweep/0", 2000)
    assert run_folder.find("last") == newest / "checkpoints" / "last.ckpt"


def test_last_passes_over_a_run_that_is_running(run):
    older, newest = run("a", 1000), run("b", 2000)
    with run_folder.holding(newest):
        assert run_folder.find("last").parent.parent == older
    assert run_folder.find("last").parent.parent == newest


def test_last_in_a_given_folder(run):
    folder = run(done=True)
    assert run_folder.find("last", "outputs/run") == folder / "checkpoints" / "last.ckpt"
    assert read(run_folder.with_old_overrides(["ckpt=last", "out=outputs/run"]))["out"] == str(folder)


@pytest.mark.parametrize("name", ["with space", "a=b", "x,y", "it's", "[1]{2}(3)", "$x %y"])
def test_any_path(run, name):
    folder = run(name)
    got = read(run_folder.with_old_overrides([f"ckpt=outputs/{name}/checkpoints/last.ckpt"]))
    assert got["ckpt"] == str(folder / "checkpoints" / "last.ckpt")
    assert got["out"] == str(folder)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: there is no such file; ckpt=last takes the newest unfinished run"),
        (["ckpt=last", "out=nowhere"], "ckpt=last: nowhere/checkpoints/last.ckpt does not exist; there is nothing"),
        (["ckpt=stray.ckpt"], "ckpt=stray.ckpt: is not in a run folder"),
        (["ckpt=outputs/run/checkpoints/last.ckpt", "out=else"], "out=else: a resumed run stays in its folder"),
    ],
)
def test_what_cannot_be_resumed(run, typed, line):
    run()
    Path("stray.ckpt").touch()
    with pytest.raises(InputError) as caught:
        run_folder.with_old_overrides(typed)
    assert str(caught.value).startswith(line)


def test_nothing_to_resume(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no run under outputs/ has a checkpoint"):
        run_folder.find("last")
    run(done=True)
    with pytest.raises(InputError, match=r"every run under outputs/ has finished; name a file to resume"):
        run_folder.find("last")


def test_remember_leaves_out_what_belongs_to_one_start(run):
    folder = run(done=True)
    run_folder.remember(folder, ["ckpt='x'", "out='y'", "seed=2"])
    assert yaml.safe_load((folder / ".hydra/overrides.yaml").read_text()) == ["seed=2"]
    assert not (folder / run_folder.DONE_FILE).exists()


def test_remember_without_a_command_line_keeps_the_record(run):
    folder = run()
    run_folder.remember(folder)
    assert yaml.safe_load((folder / ".hydra/overrides.yaml").read_text()) == OLD


def test_two_processes_do_not_train_in_one_folder(run):
    folder, refused = run(), []

    def other():
        try:
            with run_folder.holding(folder):
                pass
        except InputError as error:
            refused.append(str(error))

    with run_folder.holding(folder):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == [f"{folder}: another process is training in this folder; wait for it, or stop it"]
    other()
    assert len(refused) == 1


def test_the_processes_of_one_training_share_its_folder(run, monkeypatch):
    folder = run()
    with run_folder.holding(folder):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with run_folder.holding(folder):
            assert not run_folder.is_main()
