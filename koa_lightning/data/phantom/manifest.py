"""Phantom knees: radiographs drawn by rule, for tests, demonstrations and machines without the data.

A phantom looks like a crop of the Chen 2018 data and shows the signs of its grade (Kellgren and Lawrence
1957): joint-space narrowing, marginal osteophytes, subchondral sclerosis and deformity. It is a toy, not a model
of the disease: its metrics say nothing about patients. Research use only, not a medical device.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter, uniform_filter1d
from scipy.special import ndtr, ndtri

from koa_lightning.data.phantom.anatomy import (
    Array,
    Outline,
    Signs,
    Traits,
    across,
    bump,
    inside,
    line,
    outline,
    ramp,
    sample_signs,
    sample_traits,
    sign_region,
    steepness,
)
from koa_lightning.errors import InputError

GRADE_SHARES: tuple[float, ...] = (0.40, 0.18, 0.26, 0.13, 0.03)
"""Shares of the grades 0 to 4 in the train split of Chen 2018."""

_SIZES = range(32, 1025)
_THREADS = 2
_LATENT_CORRELATION = 0.62  # gives a Spearman correlation of about 0.54 between the knees, as in Chen 2018


def _bone(depth: Array, radius: float | Array, cortex: float) -> Array:
    """Shade of a bone: a bright cortex at the border, and increasing thickness towards the middle."""
    thickness = 0.34 + 0.16 * np.sqrt(np.maximum(depth, 0.0) / radius)
    return ramp(depth, -0.003, 0.005) * thickness + cortex * line(depth - 0.006, 0.010)


def _shade_femur(border: Outline, traits: Traits, signs: Signs) -> tuple[Array, Array]:
    x, y, size = border.x, border.y, border.x.size
    radius = traits["condyle_radius"] * (1.0 - 0.45 * min(signs.osteophyte / 0.06, 1.0) * border.affected)
    down = (border.femur_bottom - y) * steepness(border.femur_bottom, size)
    depth = inside(down, across(x, border.femur_edges, size), radius)
    bone = _bone(depth, radius, traits["cortex"])
    joint = traits["joint_y"]
    # Roof and walls of the notch, seen through the condyles, and the scar of the growth plate.
    walls = line(np.abs(x) - 0.15 + 0.15 * (y - joint + 0.14), 0.014) * bump(y, joint - 0.12, 0.10)
    roof = line(y - (joint - 0.185 + 0.9 * x * x), 0.015) * bump(x, 0.0, 0.10)
    scar = line(y - (joint - 0.265 + traits["scar_y"] - 0.10 * np.abs(x) + 0.012 * np.sin(23.0 * x)), 0.013)
    scar *= 0.55 + 0.45 * np.sin(17.0 * x + 40.0 * traits["scar_y"])
    cover = np.minimum(bone, 0.5) * 2.0
    plate = ramp(down, 0.05, 0.0) * ramp(down, -0.004, 0.004)
    plate *= 0.10 + 0.22 * signs.sclerosis * border.affected
    return bone + cover * (traits["scar_shade"] * (walls + roof + scar) + plate), cover


def _shade_tibia(border: Outline, traits: Traits, signs: Signs) -> tuple[Array, Array]:
    x, y, size = border.x, border.y, border.x.size
    radius = 0.028 - 0.016 * min(signs.osteophyte / 0.06, 1.0) * border.affected
    down = (y - border.tibia_top) * steepness(border.tibia_top, size)
    depth = inside(down, across(x, border.tibia_edges, size), radius)
    bone = _bone(depth, radius, 0.9 * traits["cortex"])
    cover = ramp(depth, -0.003, 0.005)
    hard = signs.sclerosis * border.affected
    band = np.exp(-np.maximum(down, 0.0) / (0.024 + 0.026 * hard)) * (traits["plate"] + 0.24 * hard)
    joint = traits["joint_y"]
    scar = line(y - (joint + 0.155 + traits["scar_y"] + 0.7 * x * x + 0.008 * np.sin(29.0 * x)), 0.012)
    return bone + cover * (band + 0.8 * traits["scar_shade"] * scar), cover


def _shade_fibula(border: Outline, traits: Traits) -> Array:
    x, y, size = border.x, border.y, border.x.size
    half = traits["fibula_width"] * (1.0 - 1.6 * np.maximum(y - traits["fibula_y"] - 0.10, 0.0))
    middle = traits["fibula_x"] - 0.10 * (y - traits["fibula_y"])
    radius = 0.075
    depth = inside(y - traits["fibula_y"], across(x, (middle - half, middle + half), size), radius)
    return 0.55 * _bone(depth, radius, 1.2 * traits["cortex"])


def _shade_patella(border: Outline, traits: Traits) -> Array:
    x = (border.x - traits["patella_x"]) / traits["patella_radius"]
    y = (border.y - traits["patella_y"]) / (0.92 * traits["patella_radius"])
    depth = 1.0 - np.sqrt(x * x + y * y)
    return traits["patella_shade"] * (ramp(depth, -0.02, 0.30) + 0.5 * line(depth - 0.04, 0.07))


def _shade_body(border: Outline, traits: Traits) -> Array:
    axis = traits["lean"] * (border.y - traits["joint_y"])
    edge = traits["body_width"] - np.abs(border.x - axis)
    return traits["soft_tissue"] * ramp(edge, -0.06, 0.10) - 0.12 * bump(border.x, 0.0, 0.4)


def _waves(border: Outline, rng: np.random.Generator) -> Array:
    """Slow, uneven shade of fat, muscle and exposure, about -1 to 1."""
    phase, rate = (rng.uniform(low, high, (4, 2)) for low, high in ((0.0, 6.28), (2.0, 11.0)))
    x = np.sin(phase[:, :1] + rate[:, :1] * border.x)
    y = np.sin(phase[:, 1:] + rate[:, 1:] * border.y.T)
    waves = np.einsum("kh,kw->hw", y, x) / 2.0
    return waves.astype(np.float32)


def _trabeculae(noise: Array) -> Array:
    """Turn white noise into fine strands, mostly upright, of about unit variance."""
    size = noise.shape[0]
    strands = 0.6 * noise
    for axis, length, weight in ((0, 0.030, 0.65), (1, 0.018, 0.3), (0, 0.10, 0.35)):
        pixels = max(3, round(size * length))
        strands += weight * np.sqrt(pixels) * uniform_filter1d(noise, pixels, axis=axis, mode="wrap")
    return strands


def _expose(shade: Array, traits: Traits, grain: Array) -> NDArray[np.uint8]:
    """Blur, add grain, and set brightness and contrast, which thus do not reveal the grade."""
    size = shade.shape[0]
    for axis in (0, 1):
        shade = gaussian_filter1d(shade, traits["blur"] * size, axis=axis, mode="nearest", truncate=3.0)
    # Reduce slow changes, as the local equalisation (CLAHE) of the real crops does.
    shade = shade - 0.6 * uniform_filter(shade, round(0.3 * size), mode="nearest")
    shade += traits["grain"] * grain
    shade -= shade.mean()
    shade *= traits["contrast"] / shade.std()
    return np.clip(shade + traits["brightness"], 0, 255).astype(np.uint8)


def _rng(*key: object) -> np.random.Generator:
    """Return a generator that depends only on the key, not on earlier draws."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _draw(patient: str, side: str, grade: int, seed: int, size: int) -> tuple[NDArray[np.uint8], Outline, Signs]:
    """Draw one knee; the grade enters only through the signs."""
    knee = _rng("knee", seed, patient, side)
    traits = sample_traits(_rng("patient", seed, patient), knee)
    signs = sample_signs(grade, knee)
    border = outline(traits, signs, side == "R", size)
    waves = _waves(border, knee)
    noise = knee.standard_normal((2, size, size), dtype=np.float32)
    femur, femur_cover = _shade_femur(border, traits, signs)
    tibia, tibia_cover = _shade_tibia(border, traits, signs)
    shade = _shade_body(border, traits) + traits["blotches"] * waves + femur + tibia
    shade += _shade_fibula(border, traits) + _shade_patella(border, traits)
    shade += traits["texture"] * np.maximum(femur_cover, tibia_cover) * _trabeculae(noise[0])
    return _expose(shade, traits, noise[1]), border, signs


def _check(patients: Sequence[str], sides: Sequence[str], grades: Sequence[int], size: int) -> None:
    if not len(patients) == len(sides) == len(grades):
        lengths = f"{len(patients)} patients, {len(sides)} sides and {len(grades)} grades"
        raise InputError(f"phantoms: got {lengths}; give one of each for every knee")
    if bad_grades := sorted({repr(g) for g in grades if g not in range(5)}):
        raise InputError(f"phantoms: no such grade: {', '.join(bad_grades)}; use whole numbers from 0 to 4")
    if bad_sides := sorted({repr(s) for s in sides if s not in ("L", "R")}):
        raise InputError(f"phantoms: no such side: {', '.join(bad_sides)}; use 'L' or 'R'")
    if size not in _SIZES:
        raise InputError(f"phantoms: no such size: {size!r}; use {_SIZES.start} to {_SIZES.stop - 1} pixels")


def draw_phantoms_with_masks(
    patients: Sequence[str], sides: Sequence[str], grades: Sequence[int], *, seed: int, size: int = 224
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw phantom knees and the regions of their signs.

    A knee depends only on its own patient, side and grade, and on the seed and the size. At another grade it keeps its
    anatomy, noise and exposure; only its signs change.

    Args:
        patients: Patient of each knee; the two knees of a patient share most of the anatomy.
        sides: "L" or "R"; a right knee shows its fibula on the left of the image, as usual.
        grades: Kellgren-Lawrence grade of each knee, 0 to 4.
        seed: Seed of the population.
        size: Side of the square images in pixels, 32 to 1024.

    Returns:
        Images, uint8 N x H x W, bone bright; and masks, bool N x H x W: joint space, margins and subchondral
        bone of the affected compartment, empty at grade 0.

    Raises:
        InputError: The lengths differ, or a grade, a side or the size is out of range.
    """
    _check(patients, sides, grades, size)
    images = np.empty((len(patients), size, size), np.uint8)
    masks = np.zeros(images.shape, np.bool_)

    def draw(index: int) -> None:
        grade = int(grades[index])
        images[index], border, signs = _draw(patients[index], sides[index], grade, seed, size)
        if grade > 0:
            masks[index] = sign_region(border, signs)

    # Each knee has its own generator, so the order of the threads has no effect.
    with ThreadPoolExecutor(_THREADS) as pool:
        deque(pool.map(draw, range(len(patients))), maxlen=0)
    return images, masks


def draw_phantoms(
    patients: Sequence[str], sides: Sequence[str], grades: Sequence[int], *, seed: int, size: int = 224
) -> NDArray[np.uint8]:
    """Draw phantom knees, as `draw_phantoms_with_masks` does.

    Args:
        patients: Patient of each knee.
        sides: "L" or "R".
        grades: Kellgren-Lawrence grade of each knee, 0 to 4.
        seed: Seed of the population.
        size: Side of the square images in pixels, 32 to 1024.

    Returns:
        Images, uint8 N x H x W, bone bright.

    Raises:
        InputError: The lengths differ, or a grade, a side or the size is out of range.
    """
    return draw_phantoms_with_masks(patients, sides, grades, seed=seed, size=size)[0]


def phantom_manifest(n_patients: int, seed: int, grade_shares: Sequence[float] = GRADE_SHARES) -> pd.DataFrame:
    """List the knees of a phantom population, two per patient.

    The grades of a patient's knees follow a Gaussian copula: two correlated normal variables, cut at the
    quantiles of the shares. Patient number g, for g from 0 to 4, has a left knee of grade g if that grade has
    a share, so every grade is present from five patients on. A larger population begins with a smaller one.

    Args:
        n_patients: Number of patients, at least 1.
        seed: Seed of the population; also part of the paths.
        grade_shares: Share of each grade from 0 to 4; they are scaled to sum to 1.

    Returns:
        One row per knee with path ("phantom://<seed>/<patient><side>-<grade>"), grade (int8), patient and side.

    Raises:
        InputError: There are no patients, or the shares are not five non-negative numbers with a positive sum.
    """
    try:
        shares = np.asarray(grade_shares, float)
    except (ValueError, TypeError):
        shares = np.empty(0)  # refused below
    if n_patients < 1:
        raise InputError(f"phantoms: n_patients is {n_patients}; type 1 or more")
    if shares.shape != (5,) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() == 0:
        raise InputError(f"phantoms: grade_shares is {list(grade_shares)}; give five shares of 0 or more, not all 0")
    cuts = np.cumsum(shares) / shares.sum()
    latent = _rng("grades", seed).standard_normal((n_patients, 2))
    forced = [g for g in range(min(5, n_patients)) if shares[g] > 0]
    latent[forced, 0] = ndtri((cuts - shares / shares.sum() / 2)[forced])
    latent[:, 1] = _LATENT_CORRELATION * latent[:, 0] + np.sqrt(1 - _LATENT_CORRELATION**2) * latent[:, 1]
    grade = np.searchsorted(cuts[:-1], ndtr(latent), side="right").ravel()
    patient = [f"P{i:06d}" for i in range(n_patients) for _ in "LR"]
    side = list("LR") * n_patients
    path = [f"phantom://{seed}/{p}{s}-{g}" for p, s, g in zip(patient, side, grade, strict=True)]
    return pd.DataFrame({"path": path, "grade": grade.astype(np.int8), "patient": patient, "side": side})
