"""Plant faults of every kind into a copy of a real folder, audit it, and count what was found.

    python -m experiments.audit.plant FOLDER SCRATCH     # FOLDER: {train,val}/{0..4}/9001104R.jpg, as Chen 2018 has it

The original folder is audited too: a finding there is not a false alarm in the copy. Writes results.csv beside this
file: only counts, no pictures. Research use only, not a medical device.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from benchmarks.near_duplicates import surrogate
from koa_lightning.config.compose import compose
from koa_lightning.reporting.audit import audit

N = 50  # of each kind
SEED = 0
SPLITS = ("train", "val")


class Folder:
    """A copy of the folder, into which faults are put under unused patient numbers."""

    def __init__(self, source: Path, copy: Path) -> None:
        shutil.copytree(source, copy)
        self.root, self.rng, self.number = copy, np.random.default_rng(SEED), 8_000_000
        self.free = [file for file in sorted(copy.rglob("*.jpg")) if file.stem[-1] == "R"]
        self.rng.shuffle(self.free)  # type: ignore[arg-type]

    def take(self) -> Path:
        """Return a right knee that was not taken before."""
        return self.free.pop()

    def knee(self) -> np.ndarray:
        """Return the pixels of a knee that is not taken, mirrored so that it duplicates no other."""
        return np.asarray(Image.open(self.take()))[:, ::-1]

    def place(self, grade: int | str, split: str = "train", ending: str = "png", name: str = "") -> Path:
        """Return where a new file goes."""
        self.number += 1
        return self.root / split / str(grade) / f"{name or f'{self.number}L'}.{ending}"

    def put(self, pixels: np.ndarray, grade: int | str = 0, split: str = "train", name: str = "") -> Path:
        """Write a new file."""
        file = self.place(grade, split, name=name)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file)
        return file


def _elsewhere(file: Path) -> str:
    return SPLITS[file.parts[-3] == SPLITS[0]]


def near_duplicate(folder: Folder) -> Path:
    """The same knee as another program would have cut and saved it, under another name in another split."""
    file = folder.take()
    return folder.put(surrogate(np.asarray(Image.open(file)), folder.rng), file.parent.name, _elsewhere(file))


def same_pixels(folder: Folder) -> Path:
    """The same pixels in another format, under another name in another split."""
    file = folder.take()
    return folder.put(np.asarray(Image.open(file)), file.parent.name, _elsewhere(file))


def two_grades(folder: Folder) -> Path:
    """The same pixels under another grade."""
    file = folder.take()
    return folder.put(np.asarray(Image.open(file)), (int(file.parent.name) + 2) % 5, file.parts[-3])


def patient_in_two_parts(folder: Folder) -> Path:
    """Another radiograph under the name of a patient and side of another split."""
    file = folder.take()
    return folder.put(folder.knee(), file.parent.name, _elsewhere(file), name=file.stem)


def knees_in_two_parts(folder: Folder) -> Path:
    """A knee moved to the other split; the patient's other knee stays."""
    file = folder.take()
    moved = folder.root / _elsewhere(file) / file.parent.name / file.name
    return file.rename(moved)


def inverted(folder: Folder) -> Path:
    """Bone dark."""
    file = folder.take()
    while np.asarray(Image.open(file))[100:124, :8].mean() > 128:  # inverted already: the air beside the knee is bright
        file = folder.take()
    return folder.put(255 - np.asarray(Image.open(file))[:, ::-1])


def blank(folder: Folder) -> Path:
    """One gray value, with a little noise."""
    return folder.put(folder.rng.integers(0, 255) + folder.rng.normal(0, 1, (224, 224)))


def exposure(folder: Folder) -> Path:
    """Exposed far too long or too short."""
    knee = folder.knee().astype(float)
    return folder.put(knee * 0.15 if folder.rng.random() < 0.5 else knee * 3)


def odd_size(folder: Folder) -> Path:
    """Twice as wide as high."""
    return folder.put(np.asarray(Image.fromarray(folder.knee()).resize((224, 112))))


def burnt_in(folder: Folder) -> Path:
    """Words over the joint."""
    image = Image.fromarray(folder.knee())
    words, font = f"RIGHT {folder.rng.integers(10, 99)}", ImageFont.load_default(size=int(folder.rng.integers(20, 32)))
    ImageDraw.Draw(image).text((40, int(folder.rng.integers(80, 120))), words, fill=255, font=font)
    return folder.put(np.asarray(image))


def truncated(folder: Folder) -> Path:
    """A JPEG with a missing part."""
    stream = io.BytesIO()
    Image.fromarray(folder.knee()).save(stream, "JPEG")
    file = folder.place(0, ending="jpg")
    file.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * folder.rng.uniform(0.2, 0.8))])
    return file


def unreadable(folder: Folder) -> Path:
    """Random bytes, or an empty file."""
    file = folder.place(0)
    file.write_bytes(b"" if folder.rng.random() < 0.5 else folder.rng.bytes(3000))
    return file


KINDS = (
    near_duplicate, same_pixels, two_grades, patient_in_two_parts, knees_in_two_parts, inverted, blank, exposure,
    odd_size, burnt_in, truncated, unreadable,
)  # fmt: skip


def findings(root: Path, out: Path) -> dict[str, list[frozenset[Path]]]:
    """Audit a folder; return for each kind the files of each finding, relative to the folder."""
    result = audit(compose("audit", ["data=chen2018", f"data.root={root}", f"out={out}", "quiet=true"]))
    print(f"{root}: exit code {result['exit_code']}", flush=True)
    found: dict[str, list[frozenset[Path]]] = {kind.__name__: [] for kind in KINDS}
    for finding in json.loads((out / "audit.json").read_text())["findings"]:
        files = frozenset(Path(file).relative_to(root.absolute()) for file in finding["files"])
        found.setdefault(finding["kind"], []).append(files)
    return found


def main(source: str, scratch: str) -> None:
    """Plant the faults, audit both folders, and write the table."""
    root, place = Path(source).absolute(), Path(scratch).absolute()
    before = findings(root, place / "audit-as-it-is")
    folder = Folder(root, place / "planted")
    planted = {kind.__name__: {kind(folder).relative_to(folder.root) for _ in range(N)} for kind in KINDS}
    after = findings(folder.root, place / "audit-planted")
    touched = set().union(*planted.values())
    rows = []
    for kind, files in planted.items():
        found = sum(any(file in finding for finding in after[kind]) for file in files)
        alarms = [finding for finding in after[kind] if not finding & touched and finding not in before[kind]]
        rows.append((kind, len(files), found, found / len(files), len(before[kind]), len(alarms)))
    columns = ["kind", "planted", "found", "recall", "found in the folder as it is", "false alarms"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(Path(__file__).with_name("results.csv"), index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
