import pytest
from omegaconf import OmegaConf

from koa_lightning.config import keys, schema
from koa_lightning.config.compose import compose, groups, validate
from koa_lightning.config.kinds import Either, Flag, Kind, Many, Mapped, Number, OneOf, Place, Text, Whole, typed
from koa_lightning.errors import InputError
from koa_lightning.training import build


def refusal(command, *overrides):
    """Return the line for values that cannot be."""
    with pytest.raises(InputError) as caught:
        validate(compose(command, list(overrides)), command)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    ("command", "overrides", "line"),
    [
        ("train", ["trainer.deterministic=maybe"], "trainer.deterministic=maybe: must be one of true, false, warn"),
        ("train", ["trainer.deterministic=1"], "trainer.deterministic=1: must be one of true, false, warn"),
        ("train", ["optimizer.factory.fused=abc"], "optimizer.factory.fused=abc: must be one of true, false"),
        ("train", ["optimizer=sgd", "optimizer.factory.nesterov=x"], "optimizer.factory.nesterov=x: must be one of"),
        ("train", ["callbacks.early_stopping.check_finite=abc"], "callbacks.early_stopping.check_finite=abc: must be"),
        ("train", ["tracking.system_metrics=yes"], "tracking.system_metrics=yes: must be one of true, false"),
        ("train", ["loss=focal", "loss.gamma=abc"], "loss.gamma=abc: must be a number from 0 to 100"),
        ("train", ["loss=focal", "loss.gamma=-1"], "loss.gamma=-1: must be a number from 0 to 100"),
        ("train", ["loss=corn", "loss.class_weights=balance"], "loss.class_weights=balance: must be one of none, "),
        ("train", ["loss.label_smoothing=1"], "loss.label_smoothing=1: must be a number of at least 0 and below 1"),
        ("train", ["augment.ops=3"], "augment.ops=3: must be names with what belongs to each; type"),
        ("train", ["scheduler.warmup=x"], "scheduler.warmup=x: must be a number from 0 to 1"),
        ("train", ["mix.mixup=null"], "mix.mixup=null: must be a number from 0 to 100"),
        ("train", ["trainer.limit_val_batches=2.5"], "trainer.limit_val_batches=2.5: must be a whole number from 1"),
        ("train", ["trainer.devices=some"], "trainer.devices=some: must be a whole number from -1 to 1024, or one of"),
        ("train", ["data.source=3"], "data.source=3: has keys of its own; type data.source.n_patients=VALUE"),
        ("train", ["optimizer.factory=null"], "optimizer.factory=null: has keys of its own; type optimizer.factory."),
        ("train", ["data.split=official"], "data.split=official: data=phantom has no splits of its own; type data.spl"),
        ("train", ["data=folder", "data.split=official"], "data.split=official: data=folder has no splits of its own"),
        ("eval", ["subgroups=[side,side]"], "subgroups=[side,side]: names side twice; name it once"),
        ("eval", ["readers=[a,b,b]"], "readers=[a,b,b]: names b twice; name it once"),
        ("audit", ["checks=[blank,blank]"], "checks=[blank,blank]: names blank twice; name it once"),
        ("eval", ["edges={age:abc}"], "edges={age:abc}: must be names with what belongs to each; type e.g. edges="),
        ("server", ["workers=0"], "workers=0: must be a whole number from 1 to 1024"),
        ("server", ["port=http"], "port=http: must be a whole number from 1 to 65535"),
        ("server", ["options=7"], "options=7: must be a list as options=['--allowed-hosts=HOST:PORT']"),
        ("compare", ["runs=7"], "runs=7: must be a list as runs=['A','B']"),
        ("compare", ["runs=[7]"], "runs=[7]: must be a list as runs=['A','B']"),
        ("reproduce", ["more=x"], "more=x: must be a list as more=['KEY=VALUE']"),
        ("register", ["name=7"], "name=7: must be a name, e.g. name=koa-grader"),
        ("register", ["name=[a]"], "name=[a]: must be a name"),
        ("prune_checkpoints", ["metric=[a]"], "metric=[a]: must be a name; type e.g. metric=best/quadratic_kappa"),
        ("predict", ["input=[a,b]"], "input=[a,b]: must be the name of a file or folder"),
    ],
)
def test_a_value_of_another_kind_is_refused(command, overrides, line):
    assert refusal(command, *overrides).startswith(line)


@pytest.mark.parametrize(
    ("command", "override"),
    [
        ("train", "trainer.deterministic=warn"),
        ("train", "trainer.limit_train_batches=0.5"),
        ("train", "trainer.limit_train_batches=3"),
        ("train", "trainer.devices=[0,1]"),
        ("train", "callbacks.ema=null"),
        ("train", "optimizer.factory.fused=null"),
        ("train", "++tracking.tags={site:berlin,n:3}"),
        ("eval", "subgroups=side"),
        ("eval", "edges={age:50,bmi:[20,30.5]}"),
        ("eval", "ckpt=[a.ckpt,b.ckpt]"),
        ("compare", "runs=['7',abc]"),
    ],
)
def test_a_right_value_is_taken(command, override):
    validate(compose(command, [override]), command)


def test_what_a_class_of_somebody_else_takes_is_its_own_affair():
    validate(OmegaConf.create({"loss": {"_target_": "mine.Loss", "gamma": [1, 2]}}))
    with pytest.raises(InputError, match=r"^loss\.gamma=\[1,2\]: must be a number"):
        validate(OmegaConf.create({"loss": {"_target_": "koa_lightning.losses.Focal", "gamma": [1, 2]}}))


def test_the_name_of_the_data_is_no_setting():
    cfg = compose("train", ["data.name=foo"])
    with pytest.raises(InputError, match=r"^data\.name=foo: the data is phantom.*; for another, type data= one of"):
        keys.check(cfg, "train", ["data.name=foo"])
    keys.check(compose("train", ["data.name=phantom"]), "train", ["data.name=phantom"])
    keys.check(compose("train", []), "train", [])


@pytest.mark.parametrize("key", ["data.source.foo", "optimizer.factory.foo", "scheduler.foo"])
def test_a_key_that_its_function_does_not_take_is_named(key):
    node = key.rpartition(".")[0]
    cfg = compose("train", [f"+{key}=1"])
    with pytest.raises(InputError, match=rf"^{node}: .*'foo'; see conf/{node.split('.')[0]}/ for what it takes$"):
        build.made(OmegaConf.select(cfg, node), node)


def test_the_same_key_is_never_meant_for_itself():
    for key in ("data.image_size", "data.fraction", "data.root"):
        line = keys.unknown(key, "eval")
        assert f"did you mean '{key}'" not in line
        assert "type data=" in line


def test_every_text_is_taken_as_typed_and_every_place_is_a_text():
    assert {"out", "ckpt", "data.root", "first", "folder", "database"} <= schema.places()
    assert schema.places() < schema.texts()
    assert {"data.pattern", "search", "name", "run"} <= schema.texts() - schema.places()
    assert not {"seed", "mode", "subgroups"} & schema.texts()


def test_groups_are_those_of_the_configs():
    assert {"data", "loss", "sweep/pruner"} <= set(groups())


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "words"),
    [
        (Whole(1, 64), [1, 64], [0, 65, 1.0, True, "1", None], "a whole number from 1 to 64"),
        (Number(0, 1), [0, 1, 0.5], [-0.1, float("nan"), True, "0"], "a number from 0 to 1"),
        (Number(0, 1, above=True), [1, 1e-9], [0], "a number above 0 and at most 1"),
        (Number(0, 1, below=True), [0], [1], "a number of at least 0 and below 1"),
        (Flag(), [True, False], [0, 1, "true"], "one of true, false"),
        (OneOf("", "L", null=True), ["", "L", None], ["l", 0], "one of '', L"),
        (Text("a name"), ["a"], ["", " ", 7, ["a"]], "a name"),
        (Text("a name", empty=True), [""], [7], "a name"),
        (Place(), ["a"], [7], "the name of a file or folder"),
        (Many(Text("a run"), one=True, distinct=True), ["a", ["a", "b"], []], [["a", "a"], 7, [7]], "a run, or as"),
        (Many(Number(0, 1), length=2, rising=True), [[0, 1]], [[1, 0], [0], [0, "a"], 0], "a list of 2 values as"),
        (Mapped(), [{"a": 1}, {}], [["a"], "a", 3], "names with what belongs to each"),
        (Either(Whole(1, 2), OneOf("auto")), [1, "auto"], [3, "a"], "a whole number from 1 to 2, or one of auto"),
        (Kind(null=True), [1, "a", None], [], "anything"),
    ],
)  # fmt: skip
def test_kinds(kind, right, wrong, words):
    assert kind.words().startswith(words)
    assert [value for value in right if kind.wrong(value)] == []
    assert [value for value in wrong if not kind.wrong(value)] == []


def test_typed():
    assert typed({"a": [True, None, "b", 1.5]}) == "{a:[true,null,b,1.5]}"
