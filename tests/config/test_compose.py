from itertools import zip_longest

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from koa_lightning.config import compose as config
from koa_lightning.config import schema
from koa_lightning.config.compose import best_is, choices_of, compose, keys, nearest, plain, validate, without_targets
from koa_lightning.config.keys import check
from koa_lightning.errors import InputError
from koa_lightning.metrics import weighted
from koa_lightning.uncertainty.reliability import SCORES

GROUPS = sorted({name.split("/")[0] for name in config.groups()})
ALONE = ["experiment", "sweep"]  # they choose of other groups themselves; the rest is composed side by side
EVERY_CHOICE = [
    *([f"{group}={choice}"] for group in ALONE for choice in choices_of(group)),
    *map(
        list,
        zip_longest(*([f"{group}={choice}" for choice in choices_of(group)] for group in GROUPS if group not in ALONE)),
    ),
]


@pytest.fixture(scope="module")
def composed():
    """The config of every choice."""

    def words(choice):
        return [choice, "teacher.table=x"] if choice.startswith("teacher=") and choice != "teacher=none" else [choice]

    return [
        compose("train", [word for choice in choices if choice for word in words(choice)]) for choices in EVERY_CHOICE
    ]


@pytest.fixture(scope="module")
def phantoms():
    """The config of a plain training on phantoms."""
    return compose("train", ["data=phantom"])


def test_every_choice_composes_and_holds(composed):
    for cfg in composed:
        validate(cfg)
        check(cfg, "train")
        assert plain(cfg)["seed"] == 42
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("eval", ["ckpt=x"]),
        ("predict", ["ckpt=x", "input=y"]),
        ("cross_validate", []),
        ("split", []),
        ("audit", []),
        ("explain_tests", ["ckpt=x"]),
        ("prepare", ["input=x", "output=y"]),
        ("calibrate", ["ckpt=x"]),
    ],
)
def test_the_other_configs_hold(name, needed):
    validate(compose(name, needed))


def test_no_config_sets_the_mode_of_hydra():
    # tests/fixtures/runs.py spares a command's first composition, in which Hydra looks for it
    files = {file: OmegaConf.load(file) for file in config.config_dir().rglob("*.yaml")}
    assert sum("hydra" in content for content in files.values()) > 10
    assert not [file for file, content in files.items() if "mode" in content.get("hydra", {})]


def test_every_key_that_is_checked_is_one(composed):
    known = {key for cfg in composed for key in keys(plain(cfg))}
    others = [path.stem for path in config.config_dir().glob("*.yaml")]
    known |= {key for name in others for key in keys(OmegaConf.to_container(compose(name, [])))}
    added = {"data.source.root", "data.source.table", "data.source.pattern"}
    assert set(schema.KEYS) <= known | added


def leaves(node, prefix=""):
    """Yield the keys of a config that hold no further keys, or an empty mapping."""
    for name, value in node.items():
        if str(name).startswith("_") or f"{prefix}{name}" == "hydra":
            continue
        if isinstance(value, dict) and value and f"{prefix}{name}" not in schema.FREE:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_key_of_every_config_has_a_kind_or_is_free(composed):
    entries = [path.stem for path in config.config_dir().glob("*.yaml")]
    all_of_them = [*composed, *(compose(name, []) for name in entries)]
    assert len(all_of_them) > 30
    found = {key for cfg in all_of_them for key in leaves(OmegaConf.to_container(cfg))}
    assert len(found) > 170
    assert not {key for key in found if schema.kind_of(key) is None} - set(schema.FREE)


def test_every_entry_of_ones_config_holds():
    for entry in (path.stem for path in config.config_dir().glob("*.yaml")):
        validate(compose(entry, []), entry)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("data.batch_size", 0, "data.batch_size=0: must be a whole number from 1 to 65536"),
        ("data.batch_size", 8.0, "data.batch_size=8.0: must be a whole number from 1 to 65536"),
        ("data.batch_size", True, "data.batch_size=true: must be a whole number from 1 to 65536"),
        ("data.batch_size", None, "data.batch_size=null: must be a whole number from 1 to 65536"),
        ("data.batch_size", "many", "data.batch_size=many: must be a whole number from 1 to 65536"),
        ("trainer.max_epochs", float("inf"), "trainer.max_epochs=inf: must be a whole number from 1 to 100000"),
        ("optimizer.lr", float("nan"), "optimizer.lr=nan: must be a number from 1e-12 to 1000"),
        ("optimizer.lr", -1, "optimizer.lr=-1: must be a number from 1e-12 to 1000"),
        ("data.sampler", "balance", "data.sampler=balance: must be one of none, balanced; did you mean 'balanced'?"),
        ("data.canonical_side", "X", "data.canonical_side=X: must be one of L, R"),
        ("quiet", "no", "quiet=no: must be one of true, false"),
        ("quiet", 1, "quiet=1: must be one of true, false"),
        ("trainer.precision", "fp8", "trainer.precision=fp8: must be one of auto, fp32, bf16, bf16-hybrid, fp16"),
        ("monitor", "val/loss", "mode=max: the best val/loss is the min; type mode=min"),
        ("mode", "min", "mode=min: the best val/quadratic_kappa is the max; type mode=max"),
        ("out", None, "out=null: must be a name; type out=FOLDER, or omit it"),
        ("monitor", None, "monitor=null: must be a name; type monitor=val/quadratic_kappa"),
        ("monitor", -1, "monitor=-1: must be a name"),
        ("callbacks.early_stopping.patience", 0, "callbacks.early_stopping.patience=0: must be a whole number from 1"),
        ("callbacks.early_stopping.patience", None, "callbacks.early_stopping.patience=null: must be a whole number"),
        ("tracking.tags", "abc", "tracking.tags=abc: must be names with what belongs to each; type e.g. ++tracking"),
        ("data.fraction", 0, "data.fraction=0: must be a number from 0.001 to 1"),
        ("optimizer.layer_decay", 2, "optimizer.layer_decay=2: must be a number from 0.01 to 1"),
        ("data.fold", 5, "data.fold=5: with data.folds=5 it must be 0 to 4"),
        ("explain.target", "class", "explain.target=class: must be one of grade, expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be(key, value, line, phantoms):
    cfg = phantoms.copy()
    cfg.data.folds = 5
    validate(cfg)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(InputError) as caught:
        validate(cfg)
    assert str(caught.value).startswith(line)


def test_which_knees_are_dealt_into_folds_needs_folds(phantoms):
    cfg = phantoms.copy()
    cfg.data.fold_val = False
    with pytest.raises(InputError, match=r"^data.fold_val=false: .* type data.folds=5 too"):
        validate(cfg)
    cfg.data.folds = 3
    validate(cfg)


@pytest.mark.parametrize(
    ("name", "override", "line"),
    [
        ("eval", "edges=50", "edges=50: must be names with what belongs to each; type e.g. edges={age:[50,60,70]}"),
        ("eval", "edges=[50]", "edges=[50]: must be names with what belongs to each"),
        ("eval", "subgroups=-1", "subgroups=-1: must be a name, or names as subgroups=[A,B]"),
        ("eval", "readers=[1]", "readers=[1]: must be a name, or names as readers=[A,B]"),
        ("audit", "checks=-1", "checks=-1: must be a name, or names as checks=[A,B]"),
        ("compare_predictions", "metrics=-1", "metrics=-1: must be a name, or names as metrics=[A,B]"),
    ],
)
def test_what_must_be_names_is_checked(name, override, line):
    with pytest.raises(InputError) as caught:
        validate(compose(name, ["ckpt=x", override] if name == "eval" else [override]))
    assert str(caught.value).startswith(line)


def test_null_where_it_means_something(phantoms):
    cfg = phantoms.copy()
    for key in {key for key in keys(plain(cfg)) if (kind := schema.kind_of(key)) and kind.null}:
        OmegaConf.update(cfg, key, None)
    validate(cfg)
    validate(compose("prepare", ["input=x", "output=y", "spacing=null"]))
    validate(compose("sweep_report", ["trial=null"]))
    validate(compose("eval", ["ckpt=x", "batch_size=null", "refer_below=null", "refer_risk=null"]))


def test_a_config_of_other_keys_is_passed_over():
    validate(OmegaConf.create({"anything": 1}))


def test_nearest():
    assert nearest("focl", ["ce", "focal"]) == "; did you mean 'focal'?"
    assert nearest("xyz.lr", ["seed", "optimizer.lr"]) == "; did you mean 'optimizer.lr'?"
    assert nearest("zzz", ["ce"]) == ""
    assert nearest("modle", ["mode", "model"]) == "; did you mean 'model'?"
    assert nearest("kapa", ["ap_oa", "quadratic_kappa"]) == "; did you mean 'quadratic_kappa'?"


def test_the_best_of_every_metric_that_is_measured():
    for name in weighted.names():
        best = "min" if weighted.base(name) in ("mae", "rps", "brier", "log_loss", "ece", "ece_classwise") else "max"
        assert {best_is(f"test/{name}{end}") for end in ("", "_low", "_high")} == {best}, name
    assert {best_is(f"trust_test/{side}/{name}") for side in ("raw", "calibrated") for name in SCORES} == {"min"}
    lower = ("val/loss", "best/mae", "test/mae_low", "oof/log_loss_expected", "test/mae_tuned", "trust_val/aurc")
    assert {best_is(name) for name in lower} == {"min"}
    neither = (
        "best/epoch",
        "test/n_knees",
        "trust_test/set_coverage",
        "trust_test/foreign_share",
        "oof/mae_sd",
        "kappa",
    )
    assert {best_is(name) for name in neither} == {""}


def test_without_targets_leaves_nothing_that_names_code():
    node = {"_target_": "os.system", "a": [{"_partial_": True, "b": 1}], "c": {"d": "_target_"}}
    assert without_targets(node) == {"a": [{"b": 1}], "c": {"d": "_target_"}}


def test_a_band_without_rows():
    with pytest.raises(InputError, match=r"data\.top=0\.8: must be at least 0\.1 less than data\.bottom=0\.85"):
        validate(compose("train", ["data.top=0.8", "data.bottom=0.85"]))
    validate(compose("train", ["data.top=0.8", "data.bottom=0.95"]))
