import sys

import pytest

from koa_lightning import demo
from koa_lightning.config import outcome, run_folder

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def run(place, monkeypatch, capsys):
    def call(*overrides):
        monkeypatch.setattr(sys, "argv", ["demo", *overrides])
        with pytest.raises(SystemExit) as ended:
            demo.main()
        return ended.value.code, *map(str.splitlines, capsys.readouterr())

    return call


def test_it_trains_evaluates_and_says_where_everything_is(run, place, tiny):
    code, out, _ = run(*tiny.overrides, "trainer.max_epochs=1")
    assert code == outcome.DONE
    text = "".join(line.strip("│ ┌└─┐┘") for line in out)
    for words in ("validation quadratic kappa", "validation accuracy", "validation MAE", "make ui", "best.ckpt"):
        assert words in text
    assert "research use only, not a medical device" in text
    [folder] = (place / "outputs").iterdir()
    for made in ("figures/gradcam.png", "eval/metrics.json", "eval/confusion_matrix.png", "checkpoints/best.ckpt"):
        assert (folder / made).is_file()
    assert f"checkpoint:   {folder.relative_to(place)}/checkpoints/best.ckpt" in out  # whole, to be copied
    assert max(len(line) for line in out if line.startswith(("│", "┌", "└"))) <= 80
    old = run_folder.with_old_overrides([f"ckpt={folder}/checkpoints/last.ckpt"])
    assert old[0] == "experiment=demo"
    assert "model.name=test_efficientnet" in old


def test_an_interrupted_demo_ends_with_130(run, monkeypatch):
    monkeypatch.setattr("koa_lightning.training.run.train", lambda cfg: {"exit_code": outcome.INTERRUPTED})
    assert run()[0] == outcome.INTERRUPTED


def test_ctrl_c_before_it_trains(run, monkeypatch):
    def press(cfg):
        raise KeyboardInterrupt

    monkeypatch.setattr("koa_lightning.training.run.train", press)
    assert run() == (outcome.INTERRUPTED, [], ["error: interrupted"])


@pytest.mark.sample(1)
@pytest.mark.parametrize("override", ["optimzer.lr=1", "data.batch_size=0", "experiment=dem"])
def test_bad_input_is_one_line(run, override):
    code, out, err = run(override)
    assert (code, out, len(err)) == (outcome.BAD_INPUT, [], 1)
    assert err[0].startswith("error: ")


def test_a_fault_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr("koa_lightning.training.run.train", lambda cfg: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
