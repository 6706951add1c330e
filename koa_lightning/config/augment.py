"""What a config of augmentation may name, and what it was called in version 0.1. No heavy imports here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from koa_lightning.errors import InputError

# Keys of 0.1, and what to type now.
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
# Classes of Kornia that a run folder may name, as the installed configs do: they compute, and read no file.
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
    """Return what to type for a key of 0.1, in one line; an empty string if it is none.

    Args:
        key: With dots, e.g. `augment.rotation`.
    """
    group, _, name = key.partition(".")
    if group != "augment" or name not in MOVED:
        return ""
    return f"{key}: is a key of version 0.1; operations have names and Kornia's arguments now, type e.g. {MOVED[name]}"


def check_not_old(config: Mapping[str, Any]) -> None:
    """Stop where a config of augmentation is one of 0.1.

    Raises:
        InputError: Saying what to type.
    """
    if str(config.get("_target_", "")).endswith(".KneeAugment"):
        raise InputError(
            f"augment._target_={config['_target_']}: is of version 0.1; type augment=light or augment=strong, which "
            "draw as they did, and change single operations by augment.ops.NAME.ARGUMENT=VALUE"
        )
    wrong = next((str(name) for name in config if name != "ops"), None)
    if wrong is not None:
        raise InputError(
            now(f"augment.{wrong}")
            or f"augment.{wrong}: there is only augment.ops, operations by name; see docs/augmentation.md"
        )


def began_before_kornia(where: str, then: Mapping[str, Any]) -> bool:
    """Tell whether a run to be resumed was begun by 0.1, and say that its augmentation draws other numbers now.

    The presets draw the same distributions as they did, from another stream of random numbers.

    Args:
        where: What names the run, for the message.
        then: The config of its augmentation, plain; empty where it had none.
    """
    if not then or "ops" in then:
        return False
    print(
        f"WARNING: {where}: the run was begun by version 0.1; its augmentation draws the same distributions from here "
        "on, but other random numbers, so the result is not that of a run of 0.1",
        file=sys.stderr,
    )
    return True


def check_same(where: str, then: Mapping[str, str], ops: Mapping[str, Any]) -> None:
    """Stop where an operation of a run to be resumed is of another class now; its arguments are compared elsewhere.

    Args:
        where: What names the run, for the message.
        then: The classes that the checkpoint says it was made of, by key; those of other keys are passed over.
        ops: The operations now.

    Raises:
        InputError: One is.
    """
    for name, node in ops.items():
        key = f"augment.ops.{name}"
        made = str(node["_target_"]).rsplit(".", 1)[-1] if isinstance(node, Mapping) and "_target_" in node else ""
        if made and then.get(key, made) != made:
            raise InputError(f"{where}: {key} is {made} now, and the run began with {then[key]}; type the same one")


def check_overrides(where: str, keys: Iterable[str]) -> None:
    """Stop where a run to be resumed was typed with keys of 0.1.

    Raises:
        InputError: It was.
    """
    parts = (key.lstrip("+~").partition(".") for key in keys)
    if any(group == "augment" and name and not name.startswith("ops") for group, _, name in parts):
        raise InputError(_begun_before(where))


def _begun_before(where: str) -> str:
    return (
        f"{where}: the run was begun by version 0.1, whose augmentation drew other random numbers; it cannot resume "
        "as the same run; type the same command without ckpt= and with augment=light, strong or none for a new one "
        "(eval and predict read its checkpoints)"
    )
