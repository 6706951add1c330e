"""Where the configs are, what they may hold, and how a wrong key is named. No heavy imports here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
_ABSENT = object()

# key -> (kind, lowest, highest); keys that a config lacks are passed over.
_NUMBERS: dict[str, tuple[type, float, float]] = {
    "seed": (int, 0, 2**32 - 1),
    "batch_size": (int, 1, 65536),
    "data.batch_size": (int, 1, 65536),
    "data.eval_batch_size": (int, 1, 65536),
    "data.image_size": (int, 16, 4096),
    "data.top": (float, 0.0, 0.9),
    "data.bottom": (float, 0.1, 1.0),
    "data.fraction": (float, 0.001, 1.0),
    "data.val_fraction": (float, 0.0, 0.9),
    "data.test_fraction": (float, 0.0, 0.9),
    "data.split_seed": (int, 0, 2**32 - 1),
    "data.folds": (int, 2, 1000),
    "data.fold": (int, 0, 999),
    "parallel": (int, 1, 64),
    "keep": (int, 1, 1_000_000),
    "port": (int, 1, 65535),
    "data.source.n_patients": (int, 1, 10_000_000),
    "data.source.seed": (int, 0, 2**32 - 1),
    "trainer.max_epochs": (int, 1, 100_000),
    "trainer.limit_epochs": (int, 1, 100_000),
    "trainer.accumulate_grad_batches": (int, 1, 100_000),
    "trainer.check_val_every_n_epoch": (int, 1, 100_000),
    "trainer.gradient_clip_val": (float, 0.0, 1e9),
    "trainer.limit_train_batches": (float, 1e-6, 1e9),
    "trainer.limit_val_batches": (float, 1e-6, 1e9),
    "model.drop_rate": (float, 0.0, 0.99),
    "model.drop_path_rate": (float, 0.0, 0.99),
    "optimizer.lr": (float, 1e-12, 1e3),
    "optimizer.head_lr": (float, 1e-12, 1e3),
    "optimizer.weight_decay": (float, 0.0, 1e3),
    "optimizer.head_only_epochs": (int, 0, 100_000),
    "optimizer.unfreeze_every": (int, 0, 100_000),
    "optimizer.frozen_stages": (int, 0, 1000),
    "optimizer.layer_decay": (float, 0.01, 1.0),
    "callbacks.early_stopping.patience": (int, 1, 100_000),
    "callbacks.ema.decay": (float, 0.0, 0.999999),
    "explain.every_n_epochs": (int, 0, 100_000),
    "explain.n_worst": (int, 0, 1000),
    "explain.n_tested": (int, 1, 1_000_000),
    "explain.n_road": (int, 1, 1_000_000),
    "n_shown": (int, 0, 1000),
    "n_resamples": (int, 100, 1_000_000),
    "trial": (int, 0, 10_000_000),
    "spacing": (float, 0.01, 10.0),
    "alpha": (float, 0.01, 0.5),
    "refer_below": (float, 0.0, 1.0),
    "refer_risk": (float, 0.0, 1.0),
}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "data.sampler": ("none", "balanced"),
    "data.split": ("official", "stratified", "table"),
    "data.fit": ("letterbox", "stretch"),
    "data.canonical_side": ("L", "R"),
    "data.on_unreadable": ("stop", "skip"),
    "explain.method": ("cam", "gradcam", "gradcam++", "layercam", "eigencam", "scorecam", "ablationcam"),
    "explain.target": ("grade", "expected"),
    "loss.class_weights": ("none", "balanced", "sqrt", "effective_number"),
    "trainer.precision": ("auto", "fp32", "bf16", "bf16-hybrid", "fp16"),
    "mode": ("max", "min"),
    "split": ("test", "val", "train", "auto_test", "all"),
    "side": ("", "L", "R"),
    "films": ("auto", "never", "always"),
    "crop": ("none", "joint"),
    "tta": ("none", "flip"),
    "calibration": ("temperature", "ordinal", "none"),
    "method": ("temperature", "ordinal", "none"),
    **dict.fromkeys(
        (
            "quiet",
            "near",
            "polarity",
            "data.fix_polarity",
            "data.allow_leakage",
            "fresh",
            "run_it",
            "yes",
            "overlays",
            "randomised",
            "burnt_in",
            "calibrated",
            "logits",
            "report",
            "explain.enabled",
            "explain.tests",
            "tracking.enabled",
            "tracking.system_metrics",
            "trainer.channels_last",
        ),
        (True, False),
    ),
}
_MAY_BE_NULL = {
    "batch_size", "data.eval_batch_size", "data.folds", "data.canonical_side", "optimizer.head_lr",
    "trainer.gradient_clip_val", "trainer.limit_epochs", "trainer.limit_train_batches", "trainer.limit_val_batches",
    "spacing", "trial", "refer_below", "refer_risk",
}  # fmt: skip
# lists of names, or one name
_NAMES = {"subgroups", "readers", "checks", "metrics"}
# names and what belongs to them, with how to type one
_MAPPINGS = {"edges": "edges={age:[50,60,70]}", "tracking.tags": "tracking.tags={site:berlin}"}
# metrics without the ends of their names; what is in neither has no best value, e.g. a coverage or a count
_LESS_IS_BETTER = {"loss", "mae", "rps", "brier", "log_loss", "ece", "ece_classwise", "aurc"}
_MORE_IS_BETTER = {
    "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "quadratic_kappa", "linear_kappa",
    "auroc_oa", "auroc_ge3", "ap_oa", "ap_ge3",
    *(f"{name}_{grade}" for name in ("f1", "precision", "recall") for grade in range(5)),
}  # fmt: skip
_ENDS = re.compile(r"(_expected|_tuned)?(_low|_high)?$")


def config_dir() -> Path:
    """Return the folder of the configs: inside the installed package, or `conf/` of a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def nearest(word: str, known: list[str]) -> str:
    """Return ` did you mean 'x'?` for the known word that looks most like this one, or an empty string."""
    likeness = {name: _likeness(word, name) for name in known}
    best = max(likeness, key=likeness.__getitem__, default="")
    if not best or likeness[best] < 0.5:
        # the last part of a dotted key may be right while its group is wrong
        tail = word.rsplit(".", 1)[-1]
        best = next((key for key in known if key.rsplit(".", 1)[-1] == tail), "")
    return f"; did you mean '{best}'?" if best else ""


def _likeness(word: str, name: str) -> float:
    """Return from 0 to 1 how much a word looks like a name, or like one part of it."""
    if sorted(word) == sorted(name):  # two letters changed places
        return 1.0
    compare = difflib.SequenceMatcher(b=word)

    def ratio(text: str) -> float:
        compare.set_seq1(text)
        return compare.ratio()

    return max(ratio(name), *(0.8 * ratio(part) for part in re.split(r"[._/]", name)))


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a config, branches too."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not str(key).startswith("_"):
                yield f"{prefix}{key}"
                yield from keys(value, f"{prefix}{key}.")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a config as plain, resolved containers."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def without_targets(node: Any) -> Any:
    """Return a copy without `_target_` and the like, so that nothing in it names code to run."""
    if isinstance(node, Mapping):
        return {key: without_targets(value) for key, value in node.items() if not str(key).startswith("_")}
    if isinstance(node, list | tuple):
        return [without_targets(value) for value in node]
    return node


def validate(cfg: DictConfig) -> None:
    """Check ranges and choices before anything heavy is imported.

    Raises:
        InputError: Naming the key, its value and what it may be.
    """
    for key in (*_NUMBERS, *_CHOICES):
        value = OmegaConf.select(cfg, key, default=_ABSENT)
        if value is not _ABSENT:
            check_value(key, value)
    for key in _NAMES & cfg.keys():
        _check_names(key, cfg[key])
    for key, example in _MAPPINGS.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and not isinstance(value, Mapping):
            raise InputError(f"{key}={_typed(value)}: must be names with what belongs to each; type e.g. {example}")
    for key, example in (("out", "FOLDER"), ("monitor", "val/quadratic_kappa")):
        if key in cfg and not isinstance(cfg[key], str):
            raise InputError(f"{key}={_typed(cfg[key])}: must be a name; type {key}={example}, or leave it away")
    folds, fold = OmegaConf.select(cfg, "data.folds"), OmegaConf.select(cfg, "data.fold")
    if folds is not None and fold is not None and fold >= folds:
        raise InputError(f"data.fold={fold}: with data.folds={folds} it must be 0 to {folds - 1}")
    top, bottom = OmegaConf.select(cfg, "data.top", default=0.0), OmegaConf.select(cfg, "data.bottom", default=1.0)
    if top > bottom - 0.1:
        raise InputError(f"data.top={top}: must be at least 0.1 less than data.bottom={bottom} (shares of the height)")
    if OmegaConf.select(cfg, "data.split_table") and OmegaConf.select(cfg, "data.split") != "table":
        raise InputError(f"data.split_table={cfg.data.split_table}: type data.split=table too")
    monitor, mode = str(cfg.get("monitor", "")), cfg.get("mode")
    right = best_is(monitor)
    if right and mode != right:
        raise InputError(f"mode={mode}: the best {monitor} is the {right}; type mode={right}")


def check_value(key: str, value: Any) -> None:
    """Check a plain value of one key that has a range or choices.

    Raises:
        InputError: Naming the key, the value and what it may be.
    """
    if value is None and key in _MAY_BE_NULL:
        return
    check = _check_number if key in _NUMBERS else _check_choice
    check(key, value)


def best_is(metric: str) -> str:
    """Return `min` or `max`: which value of a metric (`val/mae`) is the best one; empty where that is not known."""
    name = _ENDS.sub("", metric.split("/")[-1])
    return "min" if name in _LESS_IS_BETTER else "max" if name in _MORE_IS_BETTER else ""


def _check_number(key: str, value: Any) -> None:
    kind, low, high = _NUMBERS[key]
    fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not fits or not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        raise InputError(f"{key}={_typed(value)}: must be {noun} from {low:g} to {high:g}")


def _check_names(key: str, value: Any) -> None:
    names = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if value is not None and not all(isinstance(name, str) for name in names):
        raise InputError(f"{key}={_typed(value)}: must be a name, or names as {key}=[A,B]")


def _check_choice(key: str, value: Any) -> None:
    choices = _CHOICES[key]
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        known = [_typed(choice) for choice in choices]
        shown = ", ".join(name or "''" for name in known)
        raise InputError(f"{key}={_typed(value)}: must be one of {shown}{nearest(_typed(value), known)}")


def _typed(value: Any) -> str:
    """Return a value as one would type it."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def choices_of(group: str) -> list[str]:
    """Return the names in a config group, e.g. `loss` -> ce, focal, ..."""
    folder = config_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Compose a config outside of a command line, e.g. in a test or a notebook."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():  # inside a running entry point
        return hydra_compose(config_name, overrides)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra_compose(config_name, overrides)
