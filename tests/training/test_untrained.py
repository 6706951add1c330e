import pytest
import torch

from koa_lightning.config import run_folder
from koa_lightning.config.compose import compose, plain
from koa_lightning.models import net, weights
from koa_lightning.training import untrained


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], "optimizer.lr=0.002 model.drop_rate=0.0 model.drop_path_rate=0.0 data.image_size=96"),
        (["model=effb3", "loss=focal", "optimizer.weight_decay=0.1"], "optimizer.lr=0.002"),
        (["optimizer.lr=1e-4"], "model.drop_rate=0.0"),
        (["optimizer=sgd"], "model.drop_rate=0.0"),
        (["data.image_size=64"], "optimizer.lr=0.002 model.drop_rate=0.0 model.drop_path_rate=0.0"),
        (["data=folder", "data.root=x"], "optimizer.lr=0.002 model.drop_rate=0.0 model.drop_path_rate=0.0"),
        (["model.drop_rate=0.1", "model.drop_path_rate=0.1"], "optimizer.lr=0.002"),
        (["untrained.lr=0.003", "optimizer.head_lr=0.1"], "optimizer.lr=0.003"),
    ],
)
def test_what_nobody_typed_is_adapted(items, expected):
    cfg = compose("train", [*items, "out=x"])
    before = plain(compose("train", [*items, "out=x"]))
    said = untrained.adapt(cfg, items)
    assert said.startswith(expected)
    named = dict(part.split("=") for part in said.split())
    now, then = dict(run_folder.flat(plain(cfg))), dict(run_folder.flat(before))
    assert {key: str(value) for key, value in now.items() if value != then[key]} == {
        key: value for key, value in named.items() if value != str(then[key])
    }


def test_null_adapts_nothing():
    items = ["untrained=null"]
    cfg = compose("train", [*items, "out=x"])
    assert untrained.adapt(cfg, items) == untrained.lengthen(cfg, items, 1) == ""
    assert cfg == compose("train", [*items, "out=x"])


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("items", "steps", "epochs"),
    [
        ([], 215, 10),
        ([], 430, 5),
        ([], 429, 6),
        (["trainer.limit_epochs=7"], 215, 7),
        (["trainer.limit_epochs=3"], 215, 5),
        (["trainer.max_epochs=4"], 100, 4),
        (["trainer.limit_train_batches=2"], 10, 5),
    ],
)
def test_a_short_training_is_lengthened_to_the_steps(items, steps, epochs):
    cfg = compose("train", [*items, "out=x"])
    said = untrained.lengthen(cfg, items, steps)
    assert cfg.trainer.max_epochs == epochs
    assert said == (f"trainer.max_epochs={epochs}" if epochs not in (4, 5) else "")


def test_a_resumed_run_has_the_epochs_that_it_began_with():
    first = compose("train", ["out=x"])
    untrained.adapt(first, [])
    untrained.lengthen(first, [], 215)
    again = compose("train", ["out=x"])
    untrained.adapt(again, [], plain(first))
    assert again == first
    older = {name: value for name, value in plain(compose("train", ["out=x"])).items() if name != "untrained"}
    again = compose("train", ["out=x"])
    assert untrained.adapt(again, [], older) == ""
    assert again == compose("train", ["out=x"])


def test_a_config_that_a_program_composed_stays(tmp_path):
    assert untrained.typed(tmp_path) is None


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_100", "mobilenetv4_conv_small"])
def test_residual_blocks_begin_as_the_identity(name):
    network = net.build(net.NetSpec(name), weights.Weights("none")).net
    blocks = [block for block in network.modules() if getattr(block, "has_skip", False)]
    resting = [block for block in blocks if type(block).__name__ != "ConvBnAct"]
    assert resting
    for block in resting:
        norms = [part for part in block.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert not norms[-1].weight.any()
        assert all(part.weight.all() for part in norms[:-1])
        image = torch.rand(2, next(part for part in block.modules() if hasattr(part, "in_channels")).in_channels, 8, 8)
        torch.testing.assert_close(block(image), image)
