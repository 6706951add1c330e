"""The tables of the protocols: the same test knees and as many training images, with one difference.

Research use only, not a medical device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from kornia.augmentation import RandomAffine, RandomBrightness, RandomHorizontalFlip

from benchmarks.near_duplicates import surrogate
from koa_lightning.data.fitting import fit
from koa_lightning.data.images import read_image
from koa_lightning.data.sources.chen2018 import chen2018 as rows_of_chen2018
from koa_lightning.training.augmentation import FusedAugmentation, RandomMeanContrast

SIZE = 224  # of the pictures that are written
# Common augmentations that enlarge a data set before it is split.
COPIES = FusedAugmentation(
    {
        "flip": RandomHorizontalFlip(p=0.5),
        "affine": RandomAffine(15.0, translate=(0.05, 0.05), scale=(0.9, 1.1), p=1.0),
        "brightness": RandomBrightness((0.9, 1.1), clip_output=False),
        "contrast": RandomMeanContrast((0.85, 1.15)),
    }
)


@dataclass(frozen=True)
class Protocol:
    """How training and test knees are separated.

    Attributes:
        name: For files and tables.
        words: For the figure.
        chosen: The checkpoint that is measured: `last`, or `best` on the test knees.
        trains_as: The protocol whose training it shares, its own name if none.
    """

    name: str
    words: str
    chosen: str = "last"
    trains_as: str = ""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("by_patient", "by patient: nobody who is\ntested was seen in training"),
        Protocol("at_random", "knees at random: the patient's\nother knee may be in training"),
        Protocol("pooled", "pooled with a detector's crops of\nthe same knees, then at random"),
        Protocol("augmented", "augmented copies made first,\nthen split at random"),
        Protocol("chosen_on_test", "by patient, but the best epoch\nis chosen on the test knees", "best", "by_patient"),
    )
}


def draw(folder: Path, n_patients: int, n_test: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Draw patients of the train and val splits who have both knees; the test split is not listed.

    Args:
        folder: Of Chen 2018.
        n_patients: In all.
        n_test: Of whom one knee is tested.

    Returns:
        The tested knees, their patients' other knees, and both knees of the other patients; always the same.
    """
    rows = rows_of_chen2018(str(folder))
    rows = rows[rows["split"].isin(["train", "val"])].sort_values("path").reset_index(drop=True)
    both = rows.groupby("patient")["side"].transform("nunique") == 2
    rng = np.random.default_rng(2018)
    patients = rng.permutation(sorted(rows.loc[both, "patient"].unique()))[:n_patients]
    tested, others = patients[:n_test], patients[n_test:]
    side = dict(zip(tested, rng.choice(["L", "R"], len(tested)), strict=True))
    of_tested = rows[rows["patient"].isin(tested)]
    is_test = of_tested["side"] == of_tested["patient"].map(side)
    return of_tested[is_test], of_tested[~is_test], rows[rows["patient"].isin(others)]


def table(name: str, seed: int, knees: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], scratch: Path) -> pd.DataFrame:
    """Return the rows of a protocol: `train` as many as the other patients' knees, `val` the tested ones.

    Where knees can leak, the training knees are drawn from the others and from what leaks together, as a split at
    random does. `twin` says whether such a knee of a tested one is in training.

    Args:
        name: Of a protocol that trains.
        seed: Of the draw.
        knees: See `draw`.
        scratch: Where copies are written.
    """
    test, mates, others = knees
    leaks = {"by_patient": None, "at_random": lambda: mates, "pooled": lambda: _written(test, scratch, seed, "crops"),
             "augmented": lambda: _written(test, scratch, seed, "copies")}[name]  # fmt: skip
    train, of = others, pd.Series(dtype="str")
    if leaks is not None:
        pool = pd.concat([others, (extra := leaks())], ignore_index=True)
        chosen = np.random.default_rng(seed).permutation(len(pool))[: len(others)]
        train = pool.iloc[np.sort(chosen)]
        of = (extra["of"] if "of" in extra else extra["patient"])[extra["path"].isin(train["path"])]
    parts = [train.assign(split="train", twin=False), test.assign(split="val", twin=test["patient"].isin(of))]
    columns = ["path", "grade", "patient", "side", "split", "twin"]
    return pd.concat(parts, ignore_index=True)[columns]


def _written(test: pd.DataFrame, scratch: Path, seed: int, kind: str) -> pd.DataFrame:
    """Write a changed copy of each knee; return their rows, `of` naming the patient whose knee it is.

    A detector's crops come under patients' names of their own, as nobody would know them; copies keep the knee's name.
    """
    rng, rows, folder = np.random.default_rng(seed), [], scratch / f"{kind}_{seed}"
    change = {"crops": surrogate, "copies": _augmented}[kind]
    folder.mkdir(parents=True, exist_ok=True)
    for number, knee in enumerate(test.to_dict("records"), start=8_000_000):
        patient, stem = (str(number), f"{number}_1") if kind == "crops" else (knee["patient"], Path(knee["path"]).stem)
        file = folder / f"{stem}.png"
        cv2.imwrite(str(file), change(fit(read_image(knee["path"]), SIZE, "letterbox"), rng))
        rows.append({"path": str(file), "grade": knee["grade"], "patient": patient, "side": "", "of": knee["patient"]})
    return pd.DataFrame(rows)


def _augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    changed = COPIES(torch.from_numpy(image.copy())[None, None], generator)
    return (255 * changed[0, 0]).round().byte().numpy()
