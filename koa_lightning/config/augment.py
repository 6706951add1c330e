"""Names allowed in a config of augmentation, and their names in version 0.1. No heavy imports here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from koa_lightning.errors import InputError

# Keys of 0.1, and their replacements.
MOVED = {
    "flip": "augment.ops.flip.p=0.5",
    "rotation": "augment.ops.rotation.degrees=10",
    "translation": "augment.ops.affine.translate=[0.05,0.05]",
    "scale": "augment.ops.affine.scale=[0.95,1.05]",
    "shear": "+augment.ops.affine.shear=5",
    "brightness": "augment.ops.brightness.brightness=[0.9,1.1]",
    "contrast": "augment.ops.contrast.contrast=[0.85,1.15]",
    "gamma": "augment.ops.gamma.gamma=[0.7,1.4]",
    "noise": "augment.ops.noise.std=[0,0.03]",
    "erasing": "augment.ops.erasing.p=0.25",
    "erasing_area": "augment.ops.erasing.scale=[0.02,0.1]",
    "erasing_aspect": "augment.ops.erasing.ratio=[0.5,2]",
    "padding": "+augment.ops.affine.padding_mode=border",
}
# Kornia classes that a run folder may name, as the installed configs do: they only compute and read no files.
KORNIA = frozenset(
    f"kornia.augmentation.{name}"
    for name in (
        "RandomAffine", "RandomAutoContrast", "RandomBoxBlur", "RandomBrightness", "RandomClahe", "RandomContrast",
        "RandomElasticTransform", "RandomEqualize", "RandomErasing", "RandomGamma", "RandomGaussianBlur",
        "RandomGaussianIllumination", "RandomGaussianNoise", "RandomHorizontalFlip", "RandomInvert",
        "RandomLinearCornerIllumination", "RandomLinearIllumination", "RandomMedianBlur", "RandomMotionBlur",
        "RandomPerspective", "RandomPosterize", "RandomResizedCrop", "RandomRotation", "RandomRotation90",
        "RandomSaltAndPepperNoise", "RandomSharpness", "RandomShear", "RandomSolarize", "RandomThinPlateSpline",
        "RandomTranslate", "RandomVerticalFlip",
    )
) | frozenset(
    f"koa_lightning.training.augmentation.{name}"
    for name in (
        "RandomCollimation", "RandomDetectorNoise", "RandomExposureCurve", "RandomMeanContrast", "RandomMeanErasing",
    )
)  # fmt: skip


def now(key: str) -> str:
    """Return one line that says what to type for a key of 0.1; an empty string for any other key.

    Args:
        key: With dots, e.g. `augment.rotation`.
    """
    group, _, name = key.partition(".")
    if group != "augment" or name not in MOVED:
        return ""
    return f"{key}: is a key of version 0.1; operations now have names and Kornia's arguments, type e.g. {MOVED[name]}"


def check_not_old(config: Mapping[str, Any]) -> None:
    """Stop if a config of augmentation is from version 0.1.

    Raises:
        InputError: It is; the message says what to type.
    """
    if str(config.get("_target_", "")).endswith(".KneeAugment"):
        raise InputError(
            f"augment._target_={config['_target_']}: is from version 0.1; type augment=light or augment=strong, which "
            "draw as they did, and change single operations by augment.ops.NAME.ARGUMENT=VALUE"
        )
    wrong = next((str(name) for name in config if name != "ops"), None)
    if wrong is not None:
        raise InputError(
            now(f"augment.{wrong}")
            or f"augment.{wrong}: only augment.ops exists, with operations by name; see docs/augmentation.md"
        )


def began_before_kornia(where: str, then: Mapping[str, Any]) -> bool:
    """Tell whether a run to resume was started by 0.1, and warn that its augmentation now draws other numbers.

    The presets draw the same distributions as they did, from another stream of random numbers.

    Args:
        where: Names the run in the message.
        then: The plain config of its augmentation; empty if it had none.
    """
    if not then or "ops" in then:
        return False
    print(
        f"WARNING: {where}: the run was started by version 0.1; its augmentation still draws the same distributions, "
        "but other random numbers, so the result differs from that of version 0.1",
        file=sys.stderr,
    )
    return True


def check_same(where: str, then: Mapping[str, str], ops: Mapping[str, Any]) -> None:
    """Stop if an operation of a run to resume now has another class; its arguments are compared elsewhere.

    Args:
        where: Names the run in the message.
        then: The classes recorded in the checkpoint, by key; other keys are skipped.
        ops: The current operations.

    Raises:
        InputError: An operation has.
    """
    for name, node in ops.items():
        key = f"augment.ops.{name}"
        made = str(node["_target_"]).rsplit(".", 1)[-1] if isinstance(node, Mapping) and "_target_" in node else ""
        if made and then.get(key, made) != made:
            raise InputError(f"{where}: {key} is now {made}, but the run started with {then[key]}; type the same one")


def check_overrides(where: str, keys: Iterable[str]) -> None:
    """Stop if a run to resume was started with keys of 0.1.

    Raises:
        InputError: It was.
    """
    parts = (key.lstrip("+~").partition(".") for key in keys)
    if any(group == "augment" and name and not name.startswith("ops") for group, _, name in parts):
        raise InputError(_begun_before(where))


def _begun_before(where: str) -> str:
    return (
        f"{where}: the run was started by version 0.1, whose augmentation drew other random numbers; it cannot resume "
        "as the same run; type the same command without ckpt= and with augment=light, strong or none for a new one "
        "(eval and predict read its checkpoints)"
    )
