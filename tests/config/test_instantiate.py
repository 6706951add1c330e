import pytest
import torch
from omegaconf import OmegaConf

from koa_lightning.config.instantiate import made
from koa_lightning.errors import InputError


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"_target_": "koa_lightning.losses.Focal", "gama": 2}, "loss: .*unexpected keyword argument 'gama'"),
        ({"_target_": "koa_lightning.losses.Fokal"}, "loss: .*Fokal"),
        ({"_target_": "lightning.Trainer", "accelerator": "gpu"}, "loss: .*gpu"),
        ({"_target_": "builtins.int", "_args_": ["x"]}, "loss: invalid literal"),
    ],
)
def test_what_cannot_be_made_is_one_line(node, line):
    if torch.cuda.is_available() and "accelerator" in node:
        pytest.skip("has a GPU")
    with pytest.raises(InputError, match=line) as caught:
        made(OmegaConf.create(node), "loss")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; see conf/loss/ for what it takes")


def test_the_line_of_an_object_itself_stays():
    with pytest.raises(Exception) as caught:
        made(OmegaConf.create({"_target_": "koa_lightning.training.ema.WarmEMA", "decay": 2}), "callbacks.ema")
    assert str(caught.value.__cause__).startswith("callbacks.ema.decay=2")


def test_a_fault_is_not_dressed_up():
    with pytest.raises(Exception) as caught:
        made(OmegaConf.create({"_target_": "operator.truediv", "_args_": [1, 0]}), "loss")
    assert not isinstance(caught.value, InputError)
