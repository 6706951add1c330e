"""The one place that defines the allowed values of every key. No heavy imports here."""

from __future__ import annotations

from koa_lightning.config import figures, heat_maps
from koa_lightning.config.kinds import Either, Flag, Kind, Listed, Many, Mapped, Number, OneOf, Place, Text, Whole

_SEED = Whole(0, 2**32 - 1)
_SHARE = Number(0.0, 1.0)
_COUNT = Whole(0, 100_000)
_FROM_ONE = Whole(1, 100_000)
_NAME = Text("a name")
_METRIC = Text("a name", note="type e.g. val/quadratic_kappa")
_WEIGHTS = OneOf("none", "balanced", "sqrt", "effective_number")
_ADDRESS = Place("an address, e.g. sqlite:///FILE.db", null=True)
_LIMIT = Either(Whole(1, 10**9), Number(0.0, 1.0, above=True), null=True)
_EXPORTS, _REPORTS = ("onnx", "openvino", "torchscript"), ("html", "latex", "markdown", "csv")
_METHOD = OneOf("auto", "temperature", "ordinal", "bias", "none")

KEYS: dict[str, Kind] = {
    # of the commands
    "seed": _SEED,
    "monitor": Text("a name", note="type monitor=val/quadratic_kappa"),
    "mode": OneOf("max", "min"),
    "ckpt": Either(Place("a file, runs:/ID or models:/NAME@ALIAS"), Many(Place("a file")), null=True),
    "calibration": _METHOD,
    "method": _METHOD,
    "quiet": Flag(),
    "name": Text("a name", empty=True, null=True),
    "out": Place("a name", note="type out=FOLDER, or omit it"),
    "parallel": Whole(1, 64),
    "fresh": Flag(),
    "split": OneOf("test", "val", "train", "auto_test", "all"),
    "tta": OneOf("none", "flip"),
    "calibrated": Flag(),
    "alpha": Number(0.01, 0.5),
    "refer_below": Number(0.0, 1.0, null=True),
    "refer_risk": Number(0.0, 1.0, null=True),
    "batch_size": Whole(1, 65536, null=True),
    "table": Place(null=True),
    "logits": Flag(),
    "n_resamples": Whole(100, 1_000_000),
    "thresholds": Place(null=True),
    "subgroups": Many(_NAME, one=True, distinct=True, null=True, note="names as subgroups=[A,B]"),
    "edges": Mapped(
        Either(Number(-1e300, 1e300), Many(Number(-1e300, 1e300))), null=True, note="type e.g. edges={age:[50,60,70]}"
    ),
    "readers": Many(_NAME, one=True, distinct=True, null=True, note="names as readers=[A,B]"),
    "report": Flag(),
    "audit": Place(null=True),
    "randomised": Flag(),
    "input": Place(),
    "side": OneOf("", "L", "R"),
    "overlays": Flag(),
    "dicom": Flag(),
    "output": Place(),
    "spacing": Number(0.01, 10.0, null=True),
    "films": OneOf("auto", "never", "always"),
    "crop": OneOf("none", "joint"),
    "grades": Place(null=True),
    "key_file": Place(null=True),
    "burnt_in": Flag(),
    "format": OneOf(*_EXPORTS, *_REPORTS),
    "precision": OneOf("fp32", "fp16", "int8"),
    "n_calibration": Whole(16, 100_000),
    "licence": Text("a text"),
    "checks": Many(_NAME, one=True, distinct=True, null=True, note="names as checks=[A,B]"),
    "near": Flag(),
    "polarity": Flag(),
    "oof": Place(null=True),
    "n_shown": Whole(0, 1000),
    "n_knees": Whole(1, 64),
    "runs": Many(Text("a run"), note="as runs=['A','B']"),
    "search": Text('a search, e.g. search="metrics.`best/mae` < 0.6"', null=True),
    "first": Place(),
    "second": Place(),
    "metrics": Many(_NAME, one=True, distinct=True, null=True, note="names as metrics=[A,B]"),
    "sweep_run": Text("the id or name of a run", null=True),
    "keep": Whole(1, 1_000_000),
    "metric": Text("a name", note="type e.g. metric=best/quadratic_kappa"),
    "yes": Flag(),
    "run": Text("the id or name of a run"),
    "alias": Text("a name", null=True),
    "run_it": Flag(),
    "more": Many(Text("a setting"), note="as more=['KEY=VALUE']"),
    "folder": Place(),
    "database": Place("an address, e.g. postgresql://USER:PASSWORD@HOST:PORT/NAME", null=True),
    "host": Text("a name or address of this machine, e.g. 127.0.0.1"),
    "port": Whole(1, 65535),
    "workers": Whole(1, 1024),
    "token": Text("a secret of at least 16 characters", null=True),
    "insecure": Flag(),
    "batch_wait": Number(0.0, 10.0),
    "max_mb": Whole(1, 100_000),
    "max_files": Whole(1, 1000),
    "max_megapixels": Whole(1, 100),
    "timeout": Number(1.0, 3600.0),
    "study": Place(null=True),
    "options": Many(Text("an option"), note="as options=['--allowed-hosts=HOST:PORT']"),
    "storage": _ADDRESS,
    "trial": Whole(0, 10_000_000, null=True),
    "best": Place(null=True),
    # data
    "data.name": _NAME,
    "data.root": Place(null=True),
    "data.table": Place(null=True),
    "data.pattern": Text("a regular expression with a group (?P<patient>...)"),
    "data.image_size": Whole(16, 4096),
    "data.untrained_size": Whole(16, 4096, null=True),
    "data.fit": OneOf("letterbox", "stretch"),
    "data.top": Number(0.0, 0.9),
    "data.bottom": Number(0.1, 1.0),
    "data.canonical_side": OneOf("L", "R", null=True),
    "data.batch_size": Whole(1, 65536),
    "data.eval_batch_size": Whole(1, 65536, null=True),
    "data.fraction": Number(0.001, 1.0),
    "data.sampler": OneOf("none", "balanced"),
    "data.split": OneOf("official", "stratified", "table"),
    "data.split_table": Place(null=True),
    "data.val_fraction": Number(0.0, 0.9),
    "data.test_fraction": Number(0.0, 0.9),
    "data.split_seed": _SEED,
    "data.folds": Whole(2, 1000, null=True),
    "data.fold": Whole(0, 999),
    "data.fold_val": Flag(),
    "data.cache_dir": Place(null=True),
    "data.on_device": OneOf("auto", "always", "never"),
    "data.on_unreadable": OneOf("stop", "skip"),
    "data.fix_polarity": Flag(),
    "data.allow_leakage": Flag(),
    "data.source.n_patients": Whole(1, 10_000_000),
    "data.source.seed": _SEED,
    "data.source.grade_shares": Many(Number(0.0, 1e9), length=5, null=True),
    "data.source.root": Place(null=True),
    "data.source.table": Place(null=True),
    "data.source.pattern": Text(),
    # augment, resize, mix, teacher
    "augment.ops": Mapped(note="type e.g. +augment.ops.blur={_target_:kornia.augmentation.NAME,p:0.5}"),
    "resize.first": Number(0.0, 1.0, above=True),
    "resize.last": Number(0.0, 1.0, above=True),
    "resize.until": _SHARE,
    "mix.mixup": Number(0.0, 100.0),
    "mix.cutmix": Number(0.0, 100.0),
    "mix.probability": _SHARE,
    "mix.until": _SHARE,
    "teacher.table": Place(null=True),
    "teacher.weight": _SHARE,
    "teacher.per": OneOf("knee", "grade"),
    "untrained.steps": _FROM_ONE,
    "untrained.lr": Number(1e-12, 1e3),
    "untrained.drop_rate": Number(0.0, 0.99),
    "untrained.drop_path_rate": Number(0.0, 0.99),
    # model and loss
    "model.label": _NAME,
    "model.name": Text("the name of a model of timm"),
    "model.weights": Place("auto, imagenet, none, or a file"),
    "model.drop_rate": Number(0.0, 0.99),
    "model.drop_path_rate": Number(0.0, 0.99),
    "loss.label_smoothing": Number(0.0, 1.0, below=True),
    "loss.class_weights": _WEIGHTS,
    "loss.penalties": Many(Number(0.0, 1e6, above=True), length=4),
    "loss.gamma": Number(0.0, 100.0),
    "loss.sharpness": Number(0.0, 1000.0, above=True),
    "loss.power": Number(0.0, 100.0, above=True),
    "loss.regression": Number(0.0, 1000.0),
    # optimizer and scheduler
    "optimizer.lr": Number(1e-12, 1e3),
    "optimizer.head_lr": Number(1e-12, 1e3, null=True),
    "optimizer.weight_decay": Number(0.0, 1e3),
    "optimizer.head_only_epochs": _COUNT,
    "optimizer.unfreeze_every": _COUNT,
    "optimizer.frozen_stages": Whole(0, 1000),
    "optimizer.layer_decay": Number(0.01, 1.0),
    "optimizer.scale_lr": OneOf("none", "linear", "sqrt"),
    "optimizer.factory.betas": Many(Number(0.0, 1.0, below=True), length=2),
    "optimizer.factory.fused": Flag(null=True),
    "optimizer.factory.lr": Number(1e-12, 1e3),
    "optimizer.factory.momentum": Number(0.0, 1.0, below=True),
    "optimizer.factory.nesterov": Flag(),
    "scheduler.warmup": _SHARE,
    "scheduler.final": _SHARE,
    "scheduler.tail": _SHARE,
    "scheduler.start_div": Number(1.0, 1e12),
    "scheduler.final_div": Number(1.0, 1e12),
    "scheduler.factor": Number(0.0, 1.0, above=True, below=True),
    "scheduler.patience": _COUNT,
    # trainer and callbacks
    "trainer.accelerator": OneOf("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.devices": Either(Whole(-1, 1024), OneOf("auto"), Many(Whole(0, 1023))),
    "trainer.strategy": Text("auto, or the name of a strategy of Lightning"),
    "trainer.max_epochs": _FROM_ONE,
    "trainer.precision": OneOf("auto", "fp32", "bf16", "bf16-hybrid", "fp16"),
    "trainer.channels_last": Flag(),
    "trainer.gradient_clip_val": Number(0.0, 1e9, null=True),
    "trainer.accumulate_grad_batches": _FROM_ONE,
    "trainer.limit_epochs": Whole(1, 100_000, null=True),
    "trainer.limit_train_batches": _LIMIT,
    "trainer.limit_val_batches": _LIMIT,
    "trainer.check_val_every_n_epoch": _FROM_ONE,
    "trainer.sync_batchnorm": Flag(),
    "trainer.compile": OneOf("none", "default", "reduce-overhead", "max-autotune"),
    "trainer.deterministic": OneOf(True, False, "warn", null=True),
    "callbacks.ema.decay": Number(0.0, 0.999999),
    "callbacks.early_stopping.monitor": _METRIC,
    "callbacks.early_stopping.mode": OneOf("max", "min"),
    "callbacks.early_stopping.patience": _FROM_ONE,
    "callbacks.early_stopping.check_finite": Flag(),
    # explain and tracking
    "explain.enabled": Flag(),
    "explain.method": Listed(heat_maps.names),
    "explain.target": OneOf("grade", "expected"),
    "explain.every_n_epochs": _COUNT,
    "explain.n_worst": Whole(0, 1000),
    "explain.tests": Flag(),
    "explain.n_tested": Whole(1, 1_000_000),
    "explain.n_road": Whole(1, 1_000_000),
    # figures
    "figures.format": Many(OneOf(*figures.FORMATS), one=True, distinct=True),
    "figures.dpi": Whole(72, 1200),
    "figures.width": Either(OneOf(*figures.WIDTHS), Number(figures.NARROWEST, figures.WIDEST), null=True),
    "figures.font": Text("the name of a font, e.g. 'Liberation Sans'"),
    "figures.font_size": Number(figures.SMALLEST_FONT, 12.0),
    "figures.palette": OneOf(*figures.PALETTES),
    "figures.stamp": Flag(),
    "tracking.enabled": Flag(),
    "tracking.uri": _ADDRESS,
    "tracking.experiment": Text("a name", null=True),
    "tracking.run_name": Text("a name", empty=True, null=True),
    "tracking.system_metrics": Flag(),
    "tracking.tags": Mapped(note="type e.g. ++tracking.tags={site:berlin}"),
    "tracking.parent": Text("the id of a run", null=True),
    # sweep
    "sweep.method": OneOf("tpe", "random", "grid", "qmc"),
    "sweep.trials": Whole(1, 10_000_000, null=True),
    "sweep.metrics": Many(_NAME, one=True, distinct=True, note="names as sweep.metrics=[A,B]"),
    "sweep.directions": Many(OneOf("max", "min", "maximize", "minimize"), one=True, null=True),
    "sweep.seed": _SEED,
    "sweep.startup_trials": Whole(1, 10_000_000),
    "sweep.name": Text("a name", null=True, note="omit it, and it follows from the settings"),
    "sweep.storage": _ADDRESS,
    "sweep.repeats": Whole(1, 100_000),
    "sweep.repeat": Text("seed, fold, or a key with a whole number"),
    "sweep.n_jobs": Whole(1, 1024),
    "sweep.max_failures": Whole(0, 10_000_000, null=True),
    "sweep.folder": Place(),
    "sweep.ensemble": Flag(),
    "sweep.free": Many(Text("a key"), note="as sweep.free=[out,name]"),
    "sweep.space": Mapped(null=True, note="type e.g. +sweep.space.optimizer.lr=interval(1e-4,1e-2)"),
    "sweep.pruner": Mapped(null=True, note="type sweep/pruner=median"),
    "sweep.listener": Mapped(null=True),
}

# Keys whose allowed values differ by command.
OF_COMMANDS: dict[str, dict[str, Kind]] = {
    "report": {"format": OneOf(*_REPORTS)},
    "export": {"format": OneOf(*_EXPORTS)},
    "register": {"name": Text("a name, e.g. name=koa-grader")},
    "serve": {"keep": Place("the name of a folder", null=True)},
}
# Users may add entries below these, and below a `_target_`, since its object rejects unknown arguments.
FREE = ("augment.ops", "callbacks", "edges", "sweep.pruner", "sweep.space", "tracking.tags", "sweep.listener")
# Groups of keys that null omits.
BRANCHES_OR_NULL = ("data", "untrained", "sweep", "callbacks.ema", "callbacks.early_stopping")
BRANCHES = frozenset(key.rsplit(".", depth)[0] for key in KEYS for depth in range(1, key.count(".") + 1))
# Prefixes of the `_target_` whose arguments are listed here; other targets check their own.
OURS = ("koa_lightning.", "lightning.", "torch.optim.", "optuna.")


def kind_of(key: str, command: str = "") -> Kind | None:
    """Return the allowed values of a key, or None if it is not listed.

    Args:
        key: With dots.
        command: E.g. `train`; empty: any.
    """
    return OF_COMMANDS.get(command, {}).get(key) or KEYS.get(key)


def texts() -> frozenset[str]:
    """Return the keys whose values a command line takes as typed, whatever characters they contain."""
    return frozenset(key for key, kind in KEYS.items() if _is_text(kind))


def places() -> frozenset[str]:
    """Return the keys of files, folders and addresses."""
    return frozenset(key for key, kind in KEYS.items() if _is_text(kind, Place))


def _is_text(kind: Kind, of: type[Text] = Text) -> bool:
    if isinstance(kind, Either):
        return any(_is_text(each, of) for each in kind.kinds)
    return isinstance(kind, of)
