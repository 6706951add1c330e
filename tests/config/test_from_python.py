import pytest

from koa_lightning.config.from_python import check_texts, composed
from koa_lightning.errors import InputError


def test_a_config_is_that_of_the_command_line():
    cfg = composed("train", ["model=resnet18", "data.batch_size=3", "hydra.run.dir=elsewhere"])
    assert (cfg.model.name.split(".")[0], cfg.data.batch_size) == ("resnet18", 3)
    assert "hydra" not in cfg


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.batch_size=0"], "data.batch_size=0"),
        (["data.batchsize=3"], "data.batchsize"),
        (["model=nothing"], "nothing"),
        (["a b"], "a b"),
    ],
)
def test_what_is_wrong_is_one_line(overrides, words):
    with pytest.raises(InputError, match=words) as caught:
        composed("train", overrides)
    assert "\n" not in str(caught.value)


def test_an_override_is_a_text():
    check_texts(["model=resnet18"])
    with pytest.raises(InputError, match="5: an override must be a string"):
        check_texts(["model=resnet18", 5])
