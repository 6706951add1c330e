"""Sentences about a model and its training; see `koa_lightning.reporting.report.caveats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from koa_lightning.reporting.report.blocks import sentence
from koa_lightning.reporting.report_data import ReportData

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test", "auto_test": "auto_test", "all": "all knees"}


def phrases(found: ReportData, model: dict[str, Any]) -> dict[str, str]:
    """Return sentences about a model and its training, by key; an unknown fact has no key.

    Args:
        found: The data of the report.
        model: One of its models, see `koa_lightning.reporting.provenance.of_model`.
    """
    return {name: words for name, make in _PHRASES.items() if (words := make(found, model))}


def network(model: dict[str, Any]) -> str:
    """Return the network's name and size."""
    return f"{model['net']['name']} (timm, {model['n_parameters'] / 1e6:.1f} million parameters)"


def _technology(found: ReportData, model: dict[str, Any]) -> str:
    several = f"an ensemble of {len(found.about['models'])} convolutional networks" if found.kind == "ensemble" else ""
    return f"Deep learning: {several or 'a convolutional network'}, {network(model)}."


def _preprocessing(found: ReportData, model: dict[str, Any]) -> str:
    how, net = model["preprocessing"], model["net"]
    fit = "letterboxed" if how["fit"] == "letterbox" else "stretched"
    side = how.get("canonical_side")
    mirrored = f" Knees are mirrored to side {side}." if side else ""
    repaired = " Images with dark bone are inverted." if how.get("fix_polarity") else ""
    size, top, bottom = how["image_size"], how.get("top", 0.0), how.get("bottom", 1.0)
    band = f"Images are cropped to {top:.0%} to {bottom:.0%} of their height. " if (top, bottom) != (0.0, 1.0) else ""
    return (
        f"{band}One gray channel, {fit} to {size} x {size} pixels, normalised with mean {net['mean']:.3f} and standard "
        f"deviation {net['std']:.3f}.{mirrored}{repaired}"
    )


def _partition(found: ReportData, model: dict[str, Any]) -> str:
    counts = {split: sum(grades) for split, grades in model["data"]["counts"].items()}
    sizes = ", ".join(f"{SPLIT_NAMES.get(split, split)} {n:,}" for split, n in counts.items())
    return f"Split: {model['data'].get('split') or 'not recorded'}; knees: {sizes}."


def _disjoint(found: ReportData, model: dict[str, Any]) -> str:
    if "leaky" in found.caveats:
        return "The splits of the training data SHARE patients or knees (caveat: leaky)."
    if "patients unknown" in found.caveats:
        return "Patients are unknown, so two splits may share a patient."
    n = found.about["data"].get("n_trained_on")
    own = "By patient: training stops if two splits share a patient or an identical image."
    if n is None:
        return f"{own} Whether training used knees evaluated here is unknown: the training manifest is not available."
    return f"{own} Knees evaluated here that the grading model was trained on: {n} (by file content and patient)."


def _model(found: ReportData, model: dict[str, Any]) -> str:
    head = "cumulative logits (CORN)" if model["net"]["link"] == "corn" else "softmax over five grades"
    return f"Input: one knee. Network: {network(model)}. Head: pooled features, one linear layer, {head}."


def _weights(found: ReportData, model: dict[str, Any]) -> str:
    origin = model["weights"]
    return "Random: no pretrained weights." if origin in ("none", "") else f"Pretrained weights: {origin}."


def _training(found: ReportData, model: dict[str, Any]) -> str:
    config, made = model["config"], model.get("made_of", {})
    optimizer, data = config.get("optimizer", {}), config["data"]
    loss = str(model.get("loss", "")).rsplit(".", 1)[-1]
    epochs = model["training"].get("epochs")
    said = [
        f"Loss {loss}" if loss else "",
        f"optimizer {made['optimizer']}" if "optimizer" in made else "",
        f"learning rate {optimizer['lr']:g}" if "lr" in optimizer else "",
        f"weight decay {optimizer['weight_decay']:g}" if "weight_decay" in optimizer else "",
        f"schedule {made['scheduler']}" if "scheduler" in made else "",
        f"batches of {data['batch_size']}" if "batch_size" in data else "",
        f"{epochs} epochs trained" if epochs else "",
        *_held_back(optimizer),
        _growing(config.get("resize", {})),
        f"at most {config['trainer']['max_epochs']} epochs" if "trainer" in config else "",
        f"seed {config['seed']}" if "seed" in config else "",
        f"precision {model['plan']['precision']}",
        "weights averaged over training" if config.get("callbacks", {}).get("ema") else "",
    ]
    return sentence(", ".join(item for item in said if item)) + "."


def _held_back(optimizer: dict[str, Any]) -> list[str]:
    """Return phrases for the parts of the network that train later, slower or never."""
    first, every, n_frozen, decay = (
        optimizer.get(name) for name in ("head_only_epochs", "unfreeze_every", "frozen_stages", "layer_decay")
    )
    return [
        f"the classifier alone for {first} epochs" if first else "",
        f"one more stage every {every} epochs" if every else "",
        f"the first {n_frozen} stages frozen" if n_frozen else "",
        f"learning rate multiplied by {decay:g} per stage" if decay not in (None, 1.0) else "",
    ]


def _growing(resize: dict[str, Any]) -> str:
    first = resize.get("first", 1.0)
    return f"images growing from {first:.0%} to full size" if first != 1.0 else ""


def _augmentation(found: ReportData, model: dict[str, Any]) -> str:
    neutral = (None, 0, 0.0, [1.0, 1.0], "zeros")
    config = model["config"].get("augment", {})
    if "ops" in config:  # since version 0.2: operations by name, with Kornia's arguments
        config = {name: _arguments(ops) for name, ops in (config["ops"] or {}).items() if ops is not None}
    given = {k: v for k, v in config.items() if v not in neutral}
    if not given.get("erasing"):
        given = {name: value for name, value in given.items() if not name.startswith("erasing")}
    shown = ", ".join(f"{name} {value}" for name, value in given.items() if not isinstance(value, dict))
    mix = model["config"].get("mix", {})
    mixed = "".join(f" {name.capitalize()} with alpha {mix[name]:g}." for name in ("mixup", "cutmix") if mix.get(name))
    teacher = model["config"].get("teacher", {})
    weight, mean = teacher.get("weight"), " averaged over each grade," if teacher.get("per") == "grade" else ""
    labels = f" Soft labels: a teacher's out-of-fold probabilities,{mean} weight"
    taught = f"{labels} {weight:g} in the loss." if weight else ""
    return (f"Augmentation: {shown}." if shown else "No augmentation.") + mixed + taught


def _arguments(operation: dict[str, Any]) -> str:
    return f"({', '.join(f'{name} {value}' for name, value in operation.items())})"


def _selection(found: ReportData, model: dict[str, Any]) -> str:
    monitor = model["config"].get("monitor", "")
    which = "each fold's" if found.kind == "cross-validation" else "the"
    return f"Checkpoint with {which} best {monitor or 'validation metric'} (epoch {model['epoch']}, counted from 0)."


def is_external(found: ReportData) -> bool:
    """Return whether training and evaluation used different sources, judging by their names."""
    return bool(found.model) and found.about["data"]["name"] != found.model["data"]["name"]


def _external(found: ReportData, model: dict[str, Any]) -> str:
    own, other = model["data"]["name"], found.about["data"]["name"]
    if is_external(found):
        return f"Trained on {own}, evaluated on {other}: a different source, judging by its name."
    return f"No external data: the evaluated data comes from the same source as the training ({own})."


def _imbalance(found: ReportData, model: dict[str, Any]) -> str:
    sampler = model["config"]["data"].get("sampler", "none")
    weights = model["config"].get("loss", {}).get("class_weights", "none")
    how = [f"balanced sampling ({sampler})" if sampler != "none" else "", f"class weights {weights}"]
    met = " and ".join(item for item in how if item and not item.endswith("none"))
    if not met:
        return "Class imbalance is not corrected: no class weights, no balanced sampling."
    return f"Class imbalance is corrected by {met}."


def _compared(found: ReportData, model: dict[str, Any]) -> str:
    return "This report lists the grades of the training, validation and evaluated knees side by side."


def _specification(found: ReportData, model: dict[str, Any]) -> str:
    hashes = ", ".join(each["sha256"][:16] for each in found.about["models"])
    return f"The checkpoint contains weights, preprocessing and settings (SHA-256 starts with {hashes})."


_PHRASES: dict[str, Callable[[ReportData, dict[str, Any]], str]] = {
    "technology": _technology, "preprocessing": _preprocessing, "partition": _partition, "disjoint": _disjoint,
    "model": _model, "weights": _weights, "training": _training, "augmentation": _augmentation,
    "selection": _selection, "external": _external, "imbalance": _imbalance, "compared": _compared,
    "specification": _specification,
}  # fmt: skip
