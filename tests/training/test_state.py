"""What a training resumes from: whole, it is taken; damaged, one line names the entry, before anything is loaded."""

import copy

import pytest
import torch

from koa_lightning.errors import InputError
from koa_lightning.training import state
from koa_lightning.training.ema import WarmEMA

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def going_on(tmp_path_factory, tiny_grader, tiny_trainer, tiny_data):
    """What a training of two epochs wrote, and a grader and trainer that would resume it."""
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, WarmEMA(0.9), max_epochs=2, limit_train_batches=2).fit(tiny_grader(), tiny_data())
    content = torch.load(folder / "last.ckpt", weights_only=True)
    module, trainer = tiny_grader(), tiny_trainer(folder / "more", WarmEMA(0.9), max_epochs=3)
    return content, lambda changed: state.check(folder / "last.ckpt", changed, module, trainer)


def test_what_was_written_is_gone_on_from(going_on):
    content, check = going_on
    check(content)


DROP = object()
FIT = ("loops", "fit_loop")


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (DROP, ("optimizer_states",), "optimizer_states is not a list of one state"),
        ([], ("optimizer_states",), "optimizer_states is not a list of one state"),
        ("x", ("optimizer_states",), "optimizer_states is not a list of one state"),
        ([5], ("optimizer_states",), "optimizer_states is not a list of one state"),
        ([{}], ("optimizer_states",), "optimizer_states[0]."),
        ({}, ("optimizer_states", 0, "state"), "optimizer_states[0].state is empty after"),
        (5, ("optimizer_states", 0, "state"), "optimizer_states[0].state is not a dict"),
        ({10**6: {}}, ("optimizer_states", 0, "state"), "belongs to no parameter"),
        ({"exp_avg": torch.ones(1)}, ("optimizer_states", 0, "state", 0), "does not hold exp_avg, exp_avg_sq, step"),
        (torch.ones(3), ("optimizer_states", 0, "state", 0, "exp_avg"), ".exp_avg is of shape (3,)"),
        (torch.tensor(float("nan")), ("optimizer_states", 0, "state", 0, "step"), ".step is not finite"),
        ([], ("optimizer_states", 0, "param_groups"), "param_groups has 0 entries"),
        ("x", ("optimizer_states", 0, "param_groups", 0, "lr"), "param_groups[0].lr='x' is not a valid float"),
        (float("nan"), ("optimizer_states", 0, "param_groups", 0, "lr"), "param_groups[0].lr=nan"),
        (DROP, ("optimizer_states", 0, "param_groups", 0, "betas"), "param_groups[0].betas is missing"),
        (["a", 0.9], ("optimizer_states", 0, "param_groups", 0, "betas"), "betas[0]='a'"),
        (DROP, ("lr_schedulers",), "lr_schedulers is not a list of one state"),
        ([{}], ("lr_schedulers",), "lr_schedulers[0]."),
        (-5, ("lr_schedulers", 0, "last_epoch"), "lr_schedulers[0].last_epoch=-5"),
        (10**30, ("lr_schedulers", 0, "last_epoch"), "lr_schedulers[0].last_epoch="),
        (["a"], ("lr_schedulers", 0, "base_lrs"), "lr_schedulers[0].base_lrs"),
        (5, ("lr_schedulers", 0, "step"), "lr_schedulers[0].'step' is not an entry of a schedule"),
        (5, ("lr_schedulers", 0, "get_lr"), "lr_schedulers[0].'get_lr' is not an entry of a schedule"),
        (DROP, ("loops",), "loops is not a dict"),
        ({}, ("loops",), "loops.fit_loop is missing"),
        ("x", FIT, "loops.fit_loop is not a dict"),
        ({}, FIT, "loops.fit_loop."),
        ("x", (*FIT, "epoch_progress"), "epoch_progress is not a dict"),
        (-1, (*FIT, "epoch_progress", "current", "completed"), "completed=-1"),
        ("x", (*FIT, "epoch_progress", "current", "ready"), "ready='x'"),
        (float("nan"), (*FIT, "epoch_loop.batch_progress", "total", "ready"), "ready=nan"),
        (DROP, ("callbacks",), "callbacks is not a dict"),
        (DROP, ("callbacks", "History"), "callbacks.History is missing"),
        ("x", ("callbacks", "History", "epochs"), "callbacks.History.epochs is not a list"),
        (["x"], ("callbacks", "History", "epochs"), "callbacks.History.epochs has 'x'"),
        ([{"val/mae": 1.0}], ("callbacks", "History", "epochs"), "callbacks.History.epochs has "),
        ([{"epoch": 0, "val/mae": "x"}], ("callbacks", "History", "epochs"), "callbacks.History.epochs has "),
        ({"a": 1}, ("callbacks", "Checkpoints", "best"), "callbacks.Checkpoints.best is not a single value"),
        (DROP, ("current_model_state",), "current_model_state is not a dict"),
        (DROP, ("averaging_state",), "averaging_state is not a dict"),
        ({"n_averaged": 5}, ("averaging_state",), "averaging_state.n_averaged is not a tensor"),
        (DROP, ("state_dict", "net.net.conv_stem.weight"), "state_dict.net.net.conv_stem.weight is missing"),
        (torch.ones(2), ("state_dict", "net.net.conv_stem.weight"), "conv_stem.weight is float32 of shape (2,)"),
        (torch.ones(1, dtype=torch.int8), ("current_model_state", "net.net.conv_stem.weight"), "of type int8"),
        (DROP, ("pytorch-lightning_version",), "pytorch-lightning_version is not valid"),
        ("x; y", ("pytorch-lightning_version",), "pytorch-lightning_version is not valid"),
    ],
)
def test_an_entry_that_is_damaged_is_named(value, path, words, going_on):
    content, check = going_on
    changed = copy.deepcopy(content)
    node = changed
    for key in path[:-1]:
        node = node[key]
    if value is DROP:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    with pytest.raises(InputError) as error:
        check(changed)
    line = str(error.value)
    assert words in line
    assert "last.ckpt: damaged" in line and "\n" not in line and len(line) < 500


@pytest.mark.slow
def test_what_only_loading_tells_is_one_line_too(tiny, place, monkeypatch):
    """A damage that the comparison does not know of ends in one line all the same."""
    from koa_lightning.training.run import train

    options = ["tracking=none", "explain=none", "out=o"]
    train(tiny.config(*options))
    last = place / "o/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    content["state_dict"]["net.more"] = torch.ones(1)
    torch.save(content, last)
    with pytest.raises(InputError, match=r"last\.ckpt: damaged.*; no run can resume from it") as error:
        train(tiny.config(*options, f"ckpt={last}", "trainer.max_epochs=3"))
    assert "\n" not in str(error.value)
