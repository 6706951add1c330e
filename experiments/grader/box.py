"""Make the grader in the box: train it, write its weights, its card and the reference that a test compares with.

    python -m experiments.grader.box FOLDER [--checkpoint FILE]

FOLDER is Chen 2018 (train and val). Trains `experiment=chen2018_grader`, or takes its checkpoint; the same command
resumes. Writes grader.safetensors, card.md and grader.json into koa_lightning/pretrained/. All numbers of the card are
those of the file that is written, on the validation split. Research use only, not a medical device.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments import studies
from koa_lightning import DISCLAIMER, pretrained
from koa_lightning.checkpoint import portable
from koa_lightning.checkpoint.reading import read
from koa_lightning.config.overrides import quote
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.metrics.predictions import PROBABILITIES
from koa_lightning.reporting import report_data
from koa_lightning.reporting.report import contents, markdown
from koa_lightning.tracking.facts import git_facts

EXPERIMENT = "experiment=chen2018_grader"
LICENCE = (
    "Weights: CC BY 4.0, trained on Knee Osteoarthritis Severity Grading Dataset, Pingjun Chen, Mendeley Data, 2018, "
    "doi 10.17632/56rmx5bjcr.1 (CC BY 4.0), whose images come from the Osteoarthritis Initiative; the contrast of the "
    "images was equalised (CLAHE) by a third party. First weights: ImageNet, Apache-2.0."
)
N_PHANTOMS, SIZE = 20, 300
SECTIONS = ("card", "data", "results", "confusion", "calibration", "abstention", "conformal", "inputs", "explanations")


def phantoms() -> list[np.ndarray]:
    """Return the phantoms of the reference, uint8 300 x 300 each."""
    paths = phantom_manifest(N_PHANTOMS, 7, (0.2,) * 5)["path"].tolist()[:N_PHANTOMS]
    return list(decode_phantoms(paths, SIZE))


def reference(file: Path) -> list[list[float]]:
    """Return the probabilities of the phantoms, N x 5."""
    table = load_model(file).predict(phantoms())
    rows: list[list[float]] = np.round(table[PROBABILITIES].to_numpy(dtype=np.float64), 7).tolist()
    return rows


def make(root: Path, out: Path, checkpoint: Path | None, commit: str, tested: bool) -> None:
    """Train, write the file, evaluate it, and write its card and facts beside it."""
    typed = [EXPERIMENT, f"data.root={quote(str(root.absolute()))}"]
    minutes, commit = None, commit or git_facts()["commit"]
    if checkpoint is None:
        done = studies.train(out / "train", typed)
        checkpoint, minutes, commit = Path(done["checkpoint"]), done["minutes_alone"], done["commit"]
    found = read(checkpoint)
    portable.write(
        pretrained.WEIGHTS, found.record, found.state, found.reference, found.epoch, {"licence": LICENCE}
    )  # fmt: skip
    folder = out / f"val-{hashlib.sha256(pretrained.WEIGHTS.read_bytes()).hexdigest()[:12]}"
    data = [f"data={found.record.data.name}", typed[1]]
    tests = ["explain.tests=true", "explain.n_tested=40", "explain.n_road=8"] if tested else ["explain=none"]
    studies.evaluate([pretrained.WEIGHTS], folder, [*data, "split=val", "tracking=none", *tests])
    facts: dict[str, Any] = {
        "note": DISCLAIMER,
        "sha256": hashlib.sha256(pretrained.WEIGHTS.read_bytes()).hexdigest(),
        "bytes": pretrained.WEIGHTS.stat().st_size,
        "licence": LICENCE,
        "command": "python -m experiments.grader.box FOLDER",
        "seed": found.record.config.get("seed"),
        "epochs": f"{found.epochs_done} of {found.record.config['trainer']['max_epochs']}",
        "commit": commit,
        "data.fingerprint": found.record.data.fingerprint,
        "minutes_on_two_cores": None if minutes is None else round(minutes, 1),
        "phantoms": reference(pretrained.WEIGHTS),
    }
    pretrained.FACTS.write_text(json.dumps(facts, indent=1) + "\n")
    pretrained.CARD.write_text(card(folder, facts))
    print(f"written to {pretrained.FOLDER}: {facts['bytes'] / 1e6:.1f} MB, sha256 {facts['sha256'][:12]}")


def card(folder: Path, facts: dict[str, Any]) -> str:
    """Return the model card, by the report's own sections, of an evaluation in a folder."""
    found = report_data.read(folder, None, [], {}, [])
    took = f"; {facts['minutes_on_two_cores']} minutes on two cores" if facts["minutes_on_two_cores"] else ""
    head = [
        "# The grader in the box",
        f"**{DISCLAIMER.capitalize()}.** It grades one knee joint on a frontal radiograph, Kellgren-Lawrence 0 to 4, "
        "and says how sure it is. It is for studies of grading by people who know its limits, never for patients.",
        f"- **Made by** `{facts['command']}`, weights after {facts['epochs']} epochs, seed {facts['seed']}, "
        f"commit {facts['commit'][:12]}{took}.",
        f"- **Weights** `{pretrained.WEIGHTS.name}`, {facts['bytes'] / 1e6:.1f} MB, sha256 `{facts['sha256']}`.",
        f"- **Data fingerprint** `{facts['data.fingerprint']}`: it was trained on the train split alone; the "
        "validation split chose the epoch and fitted calibration and prediction sets; the test split was not opened.",
        f"- **Licence.** {facts['licence']}",
    ]
    body = markdown.render(contents.sections(found), SECTIONS)
    return "\n\n".join([head[0], head[1], "\n".join(head[2:]), _tidy(body)])


def _tidy(text: str) -> str:
    """Return the text without the paths of the machine that evaluated it."""
    for place in (str(Path.cwd()), str(Path.home())):
        text = text.replace(place, "FOLDER")
    return text


def main() -> None:
    """Run the typed command."""
    typed = argparse.ArgumentParser(prog="python -m experiments.grader.box", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("--checkpoint", type=Path, help="of `experiment=chen2018_grader`; none: it is trained")
    typed.add_argument("--commit", default="", help="that trained the checkpoint; none: this one")
    typed.add_argument("--untested", action="store_true", help="without the tests of the heat maps, which take minutes")
    typed.add_argument("--out", type=Path, default=Path("outputs/grader"), help="where the runs go")
    args = typed.parse_args()
    print(f"$ {shlex.join(sys.argv)}")
    make(args.folder, args.out.absolute(), args.checkpoint, args.commit, not args.untested)


if __name__ == "__main__":
    main()
