"""Anatomy, signs and outline of one phantom knee.

The knee is described by curves in joint coordinates: `x` grows from lateral to medial, `y` from femur to
tibia, both in fractions of the image side, so that a right and a left knee are the same drawing, mirrored.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Traits = dict[str, float]


class Trait(NamedTuple):
    """Mean of a property, and its standard deviations among patients and between the knees of one patient."""

    mean: float
    patient: float
    knee: float


# Lengths are fractions of the image side; shades are 1 for plain bone and 0 for air.
TRAITS: dict[str, Trait] = {
    "shift_x": Trait(0.0, 0.0, 0.012),
    "shift_y": Trait(0.0, 0.008, 0.012),
    "tilt": Trait(0.0, 0.008, 0.02),  # slope of the joint line
    "lean": Trait(0.0, 0.02, 0.03),  # slope of the long axis
    "half_width": Trait(0.41, 0.014, 0.004),
    "joint_y": Trait(0.565, 0.012, 0.004),
    "joint_space": Trait(0.042, 0.0032, 0.0012),
    "notch_depth": Trait(0.092, 0.012, 0.005),
    "notch_width": Trait(0.118, 0.010, 0.003),
    "condyle_curve": Trait(0.75, 0.20, 0.06),
    "condyle_radius": Trait(0.085, 0.010, 0.003),
    "groove": Trait(0.020, 0.007, 0.002),  # waist between condyle and epicondyle
    "femur_taper": Trait(0.40, 0.16, 0.03),
    "tibia_taper": Trait(0.34, 0.08, 0.02),
    "spine_height": Trait(0.026, 0.007, 0.003),
    "eminence": Trait(0.052, 0.007, 0.002),
    "dish": Trait(0.014, 0.004, 0.0015),
    "fibula_x": Trait(-0.425, 0.025, 0.012),
    "fibula_y": Trait(0.80, 0.025, 0.010),
    "fibula_width": Trait(0.095, 0.010, 0.003),
    "patella_x": Trait(-0.04, 0.035, 0.02),
    "patella_y": Trait(0.175, 0.045, 0.02),
    "patella_radius": Trait(0.205, 0.018, 0.004),
    "patella_shade": Trait(0.30, 0.09, 0.02),
    "scar_shade": Trait(0.30, 0.10, 0.03),
    "scar_y": Trait(0.0, 0.015, 0.005),
    "body_width": Trait(0.49, 0.035, 0.01),
    "cortex": Trait(0.36, 0.08, 0.03),
    "plate": Trait(0.62, 0.09, 0.03),  # subchondral plate of the tibia
    "texture": Trait(0.12, 0.035, 0.01),
    "soft_tissue": Trait(0.84, 0.06, 0.02),
    "blotches": Trait(0.10, 0.03, 0.01),
    "blur": Trait(0.0030, 0.0008, 0.0002),
    "grain": Trait(0.05, 0.02, 0.01),
    "brightness": Trait(148.0, 10.0, 5.0),
    "contrast": Trait(44.0, 5.0, 2.0),
}

# Signs at a continuous severity; narrowing increases strictly, so the joint space shrinks with every grade.
_SEVERITY = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_NARROWING = (0.00, 0.02, 0.14, 0.33, 0.62, 0.88, 0.97)  # share of the joint space that is lost
_OSTEOPHYTE = (0.0, 0.0, 0.016, 0.031, 0.044, 0.057, 0.066)  # length of the lip
_SCLEROSIS = (0.0, 0.0, 0.10, 0.30, 0.65, 1.00, 1.10)
_DEFORMITY = (0.0, 0.0, 0.0, 0.0, 0.15, 1.00, 1.30)

_SEVERITY_SPREAD = 0.33  # neighbouring grades overlap, as readers' grades do
_SIGN_SPREAD = 0.22  # the signs of one knee vary independently
_MEDIAL_SHARE = 0.72  # the medial compartment is affected more often


@dataclass(frozen=True)
class Signs:
    """Signs of osteoarthritis of one knee; `side` is +1 for the medial and -1 for the lateral compartment."""

    side: float
    narrowing: float
    osteophyte: float
    sclerosis: float
    deformity: float


def sample_traits(patient: np.random.Generator, knee: np.random.Generator) -> Traits:
    """Draw the anatomy and the exposure of a knee; the two knees of a patient share most of it.

    Args:
        patient: Generator of the traits that both knees share.
        knee: Generator of the knee's own traits.

    Returns:
        A value for each name in `TRAITS`, within two standard deviations of either kind.
    """
    shared = np.clip(patient.standard_normal(len(TRAITS)), -2, 2)
    own = np.clip(knee.standard_normal(len(TRAITS)), -2, 2)
    return {
        name: float(trait.mean + trait.patient * a + trait.knee * b)
        for (name, trait), a, b in zip(TRAITS.items(), shared, own, strict=True)
    }


def sample_signs(grade: int, knee: np.random.Generator) -> Signs:
    """Draw the signs of a grade; with an equal generator, a higher grade never has a weaker sign.

    Args:
        grade: Kellgren-Lawrence grade, 0 to 4.
        knee: Generator of the affected side and of the spread within a grade.

    Returns:
        The signs; narrowing in 0..1, osteophyte in fractions of the image side.
    """
    side = 1.0 if knee.random() < _MEDIAL_SHARE else -1.0
    spread = np.clip(knee.standard_normal(5), -2.2, 2.2)
    severity = grade + _SEVERITY_SPREAD * spread[0] + _SIGN_SPREAD * spread[1:]
    tables = (_NARROWING, _OSTEOPHYTE, _SCLEROSIS, _DEFORMITY)
    return Signs(side, *(float(np.interp(s, _SEVERITY, t)) for s, t in zip(severity, tables, strict=True)))


def joint_space_width(traits: Traits, signs: Signs) -> float:
    """Joint-space width in the middle of the affected compartment, in fractions of the image side."""
    return traits["joint_space"] * (1.0 - 0.93 * signs.narrowing)


def ramp(values: Array, start: float, stop: float) -> Array:
    """Rise linearly from 0 at `start` to 1 at `stop`."""
    return np.clip((values - start) / (stop - start), 0.0, 1.0)


def bump(values: Array, centre: float, width: float) -> Array:
    """Gaussian bump of height 1."""
    return np.exp(-np.square((values - centre) / width))


def inside(down: Array, across: Array, radius: float | Array) -> Array:
    """Depth below two borders that meet in a rounded corner: at most `radius`, negative outside."""
    a, b = np.maximum(radius - down, 0.0), np.maximum(radius - across, 0.0)
    return radius - np.sqrt(a * a + b * b)


def line(distance: Array, width: float) -> Array:
    """Bright line of height 1 where the distance is 0."""
    return np.maximum(1.0 - np.abs(distance) / width, 0.0)


def steepness(curve: Array, size: int) -> Array:
    """Factor that converts distance along an axis to distance across a sloped border."""
    slope = np.gradient(curve.ravel()).astype(np.float32) * size
    return (1.0 / np.sqrt(1.0 + slope * slope)).reshape(curve.shape)


def across(x: Array, edges: tuple[Array, Array], size: int) -> Array:
    """Depth from the nearer of the lateral and the medial edge."""
    lateral, medial = edges
    return np.minimum((x - lateral) * steepness(lateral, size), (medial - x) * steepness(medial, size))


@dataclass(frozen=True)
class Outline:
    """Border curves of one knee on a pixel grid: (1, W) along x, (H, 1) along y."""

    x: Array
    y: Array
    femur_bottom: Array
    tibia_top: Array
    femur_edges: tuple[Array, Array]  # lateral, medial
    tibia_edges: tuple[Array, Array]
    affected: Array  # 0..1 along x, 1 within the affected compartment


def outline(traits: Traits, signs: Signs, right: bool, size: int) -> Outline:
    """Lay out the borders of the bones.

    Args:
        traits: Anatomy.
        signs: Signs that change the borders.
        right: Whether it is a right knee, which shows its lateral side on the left of the image.
        size: Image side in pixels.

    Returns:
        The borders in joint coordinates.
    """
    grid = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x = ((grid - 0.5 - traits["shift_x"]) * (1.0 if right else -1.0))[None, :]
    y = (grid - traits["shift_y"])[:, None]
    side, radius = signs.side, np.abs(x)
    affected = ramp(side * x, 0.02, 0.15)
    # Varus or valgus: the whole joint line sinks on the affected side.
    level = traits["joint_y"] + traits["tilt"] * x + 0.11 * signs.deformity * np.maximum(side * x, 0.0)
    curve = traits["condyle_curve"] * (1.0 - 0.5 * signs.deformity * affected)
    femur_bottom = level - curve * np.square(radius - 0.25)
    femur_bottom -= traits["notch_depth"] * np.exp(-np.power(radius / traits["notch_width"], 2.5))
    lost = traits["joint_space"] - joint_space_width(traits, signs)
    tibia_top = level + traits["joint_space"] - lost * affected
    tibia_top += traits["dish"] * (bump(radius, 0.24, 0.09) - 1.0)
    tibia_top -= traits["eminence"] * bump(radius, 0.0, 0.105)
    tibia_top -= traits["spine_height"] * (bump(x, 0.05, 0.022) + 0.75 * bump(x, -0.05, 0.022))
    # Worn bones touch but never overlap.
    tibia_top = np.maximum(tibia_top, femur_bottom + 0.002)
    edges = _femur_edges(y, traits, signs), _tibia_edges(y, traits, signs)
    return Outline(x, y, femur_bottom, tibia_top, *edges, affected)


def _lip(signs: Signs, side: float) -> float:
    """Length of the osteophytes at the margin of a side."""
    return signs.osteophyte if side == signs.side else 0.0


def _femur_edges(y: Array, traits: Traits, signs: Signs) -> tuple[Array, Array]:
    joint, half = traits["joint_y"], traits["half_width"]
    above = joint - 0.27 - y
    shaft = traits["femur_taper"] * 0.5 * (above + np.sqrt(np.square(above) + 0.006)) - 0.02
    waist = traits["groove"] * bump(y, joint - 0.17, 0.05)
    axis = traits["lean"] * (y - joint)
    lips = [_lip(signs, s) * bump(y, joint - 0.042 + 0.04 * signs.deformity, 0.030) for s in (-1.0, 1.0)]
    return axis - half + shaft + waist - lips[0], axis + half - 0.8 * shaft - waist + lips[1]


def _tibia_edges(y: Array, traits: Traits, signs: Signs) -> tuple[Array, Array]:
    top, half = traits["joint_y"] + traits["joint_space"], traits["half_width"] + 0.002
    below = np.maximum(y - top, 0.0)
    flare = traits["tibia_taper"] * (np.sqrt(np.square(below) + 0.01) - 0.1) * 1.15
    slip = -0.025 * signs.deformity * signs.side + traits["lean"] * (y - top)
    lips = [1.15 * _lip(signs, s) * np.exp(-below / 0.045) for s in (-1.0, 1.0)]
    return slip - half + 1.15 * flare - lips[0], slip + half - flare + lips[1]


def sign_region(border: Outline, signs: Signs) -> NDArray[np.bool_]:
    """Region of the signs: joint space, margins with osteophytes and subchondral bone of the affected side.

    Args:
        border: Outline on the pixel grid.
        signs: Signs; only the affected side is used.

    Returns:
        H x W bool.
    """
    x, y = border.x, border.y
    below = y > border.tibia_top
    lateral, medial = (np.where(below, t, f) for f, t in zip(border.femur_edges, border.tibia_edges, strict=True))
    rows = (y > border.femur_bottom - 0.085) & (y < border.tibia_top + 0.075)
    return rows & (signs.side * x > 0.06) & (x > lateral - 0.015) & (x < medial + 0.015)
