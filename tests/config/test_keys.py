import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from koa_lightning.config import keys
from koa_lightning.config.compose import compose, config_dir
from koa_lightning.errors import InputError

ENTRIES = sorted(path.stem for path in config_dir().glob("*.yaml"))


def refusal(*overrides, name="train"):
    """The line for a config that cannot be composed."""
    with pytest.raises(HydraException) as caught:
        compose(name, list(overrides))
    GlobalHydra.instance().clear()
    return keys.explain_hydra(f"{caught.value}\n{caught.value.__cause__ or ''}", name)


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["optimzer.lr=3"], "optimzer.lr: no such key in the configuration; did you mean 'optimizer.lr'?"),
        (["modell=effb3"], "modell: no such key in the configuration; did you mean 'model'?"),
        (["max_epochs=3"], "max_epochs: no such key in the configuration; did you mean 'trainer.max_epochs'?"),
        (["zzzz=3"], "zzzz: no such key in the configuration (all keys: add --cfg job)"),
        (["data.root=x"], "data.root: exists only with data=chen2018 or folder or table; type data=... too"),
        (["loss.gamma=1"], "loss.gamma: exists only with loss=focal"),
        (["loss=focal", "loss.gama=1"], "loss.gama: no such key in the configuration; did you mean 'loss.gamma'?"),
        (["data=chen2018", "data.rot=x"], "data.rot: no such key in the configuration; did you mean 'data.root'?"),
        (["loss=focl"], "loss=focl: no such choice; did you mean 'focal'? (loss is one of: ce, "),
        (["experiment=demoo"], "experiment=demoo: no such choice; did you mean 'demo'?"),
        (["trainer=tpu"], "trainer=tpu: no such choice"),
        (["data.root=[1,"], "an override cannot be read: "),
        (["name=a=b"], "an override cannot be read: mismatched input '='"),
        (["seed"], "an override cannot be read: missing EQUAL"),
        (["a b"], "an override cannot be read: a b (write key=value"),
        (["name=a,b"], "Ambiguous value for argument 'name=a,b'"),
    ],
)
def test_what_hydra_refuses_is_one_line_with_the_nearest_right_key(overrides, start):
    line = refusal(*overrides)
    assert line.startswith(start)
    assert "\n" not in line


def test_eval_names_its_own_keys_alone():
    assert refusal("model=resnet18", name="eval").startswith("model: no such key in the configuration (all")
    assert refusal("loss.gamma=1", name="eval").startswith("loss.gamma: no such key in the configuration (all")
    assert refusal("splt=val", name="eval").startswith("splt: no such key in the configuration; did you mean 'split'?")
    assert refusal("data=chenn", name="eval").startswith("data=chenn: no such choice; did you mean 'chen2018'?")


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_config_knows_its_own_keys(entry):
    keys.check(compose(entry, []), entry)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("+foo=1", "foo: no such key in the configuration (all keys"),
        ("++foo.bar=1", "foo: no such key in the configuration (all keys"),
        ("+data.image_sise=96", "data.image_sise: no such key in the configuration; did you mean 'data.image_size'?"),
        ("+data.root=x", ""),
        ("+sweep.trails=3", "sweep.trails: no such key in the configuration; did you mean 'sweep.trials'?"),
        ("+tracking.tag=3", "tracking.tag: no such key in the configuration; did you mean 'tracking.tags'?"),
    ],
)
def test_a_key_that_nothing_would_read_is_refused(override, start):
    cfg = compose("train", [override])
    if not start:  # of another choice of the group
        keys.check(cfg, "train", [override])
        return
    with pytest.raises(InputError) as caught:
        keys.check(cfg, "train", [override])
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize(
    "override",
    [
        "+tracking.tags.site=berlin",
        "+callbacks.mine._target_=lightning.pytorch.callbacks.Timer",
        "callbacks.ema=null",
        "+optimizer.factory.eps=1e-6",
        "+trainer.profiler=simple",
        "+data.source.grade_shares=[1,1,1,1,1]",
    ],
)
def test_what_is_made_of_its_own_keys_is_left_to_what_makes_it(override):
    keys.check(compose("train", [override.replace("+data.source.g", "data.source.g")]), "train", [override])


def test_a_group_that_is_missing_in_ones_own_folder_is_said():
    typed = "+experiments=mine/best"
    with pytest.raises(
        InputError, match=r"^\+experiments=mine/best: there is no folder experiments in --config-dir /x"
    ):
        keys.check(compose("train", [typed]), "train", [typed], ["/x"])


@pytest.mark.parametrize("override", ["data=_base", "data=null", "data=", "~data", "~data=folder", "+data=null"])
def test_a_group_needs_one_of_its_choices(override):
    with pytest.raises(InputError) as caught:
        keys.check_choices(["seed=1", override])
    ends = "choose one of its choices (data is one of: chen2018, folder, phantom, table)"
    assert str(caught.value) == f"{override}: {ends}"


def test_what_is_no_group_may_be_null():
    keys.check_choices(["ckpt=null", "name=", "~optimizer.factory.fused", "loss=focal", "=3"])
