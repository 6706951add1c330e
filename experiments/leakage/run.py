"""Train and measure the same network under five protocols; finished steps are skipped, interrupted ones resume.

    python -m experiments.leakage.run FOLDER [--seeds 0 1 2] [--with KEY=VALUE ...]   # {train,val}/{0..4}/9001104R.jpg

Only the train and val splits of the folder are read. Writes results.csv, audit.csv and accuracy.png beside this file:
numbers and a chart, no radiographs. Research use only, not a medical device.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import studies
from experiments.leakage import picture
from experiments.leakage.protocols import PROTOCOLS, Protocol, draw, table

HERE = Path(__file__).parent
OVERRIDES = [
    "data=table", "model=efflite0", "model.weights=imagenet", "loss=ce", "augment=light", "trainer=cpu",
    "optimizer.lr=1e-3", "data.image_size=144", "trainer.max_epochs=10", "callbacks.early_stopping=null",
    "explain=none", "monitor=val/accuracy", "data.allow_leakage=true",
]  # fmt: skip
HONEST = "by_patient"  # each seed of the others is compared with its own of this
ALL = "all"  # in place of a seed: the predictions of all seeds, patients drawn with those of each


def measure_one(protocol: Protocol, seed: int, knees: Any, out: Path, more: Sequence[str]) -> pd.DataFrame:
    """Train one protocol with one seed, or take the training that it shares; return its predictions."""
    source = PROTOCOLS[protocol.trains_as or protocol.name]
    folder = out / f"{source.name}_{seed}"
    file = out / f"{source.name}_{seed}.csv"
    if not file.exists():
        table(source.name, seed, knees, out).to_csv(file, index=False)
    name = f"name=leakage_{source.name}"
    studies.train(folder, [*OVERRIDES, f"data.table={file}", f"seed={seed}", name, *more])
    checkpoint = folder / "checkpoints" / f"{protocol.chosen}.ckpt"
    return studies.evaluate([checkpoint], folder / f"tested_{protocol.chosen}", studies.PLAIN).assign(seed=seed)


def row_of(protocol: Protocol, seed: int | str, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return a row of the table of results."""
    twin = predictions["twin"].astype(bool)
    right = predictions["predicted"] == predictions["grade"]
    own = {"protocol": protocol.name, "seed": seed, "knees": int(predictions["path"].nunique())}
    with_twin = {
        "twin_in_training": twin.mean(),
        "accuracy_with_twin": right[twin].mean() if twin.any() else None,
        "accuracy_without_twin": right[~twin].mean() if not twin.all() else None,
    }
    return own | studies.measure(predictions) | with_twin


def audited(name: str, file: Path, out: Path) -> dict[str, Any]:
    """Audit the table of a protocol; return its findings."""
    from koa_lightning.config.compose import compose
    from koa_lightning.data.audit.findings import KINDS, LEAKAGE
    from koa_lightning.reporting.audit import audit

    folder = out / f"audit_{file.stem}"
    if not (folder / "audit.json").exists():
        audit(compose("audit", ["data=table", f"data.table={file}", f"out={folder}", "quiet=true"]))
    result = json.loads((folder / "audit.json").read_text())
    listed = pd.read_csv(folder / "findings.csv")
    leaks = listed[listed["severity"] == LEAKAGE]["kind"].value_counts()
    said = "; ".join(f"{n} x {KINDS[str(kind)].title.lower()}" for kind, n in leaks.items()) or "no leakage"
    return {"protocol": name, "exit_code": result["exit_code"], "leakage_findings": int(leaks.sum()), "said": said}


def page(folder: Path) -> None:
    """Write the tables of a folder into its page, if it has one."""
    file = folder / "README.md"
    if file.exists():
        results = pd.read_csv(folder / "results.csv", dtype={"seed": "str"}).query("seed == @ALL")
        said = pd.read_csv(folder / "audit.csv").set_index("protocol")["said"]
        studies.show(
            file,
            [{"protocol": PROTOCOLS[row["protocol"]].words.replace("\n", " ")} | studies.intervals(row)
             | {"the audit": str(said[row["protocol"]])} for row in results.to_dict("records")],
        )  # fmt: skip


def main() -> None:
    """Run the typed command."""
    typed = argparse.ArgumentParser(prog="python -m experiments.leakage.run", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    typed.add_argument("--patients", type=int, default=1800, help="in all")
    typed.add_argument("--tested", type=int, default=600, help="patients of whom one knee is tested")
    typed.add_argument("--out", type=Path, default=Path("outputs/leakage"), help="where runs and copies go")
    typed.add_argument("--results", type=Path, default=HERE, help="where tables and figure go")
    typed.add_argument("--with", dest="more", nargs="*", default=[], help="overrides for each training")
    args = typed.parse_args()
    out = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    args.results.mkdir(parents=True, exist_ok=True)
    knees = draw(args.folder.absolute(), args.patients, args.tested)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in PROTOCOLS}
    for seed in args.seeds:  # every protocol once before any is repeated, so that a study that ends early is fair
        for name in sorted(PROTOCOLS, key=lambda name: name != HONEST):
            protocol = PROTOCOLS[name]
            found[name].append(measure_one(protocol, seed, knees, out, args.more))
            whole = pd.concat(found[name], ignore_index=True)
            rows = [row_of(protocol, seed, found[name][-1]), row_of(protocol, ALL, whole)]
            if name != HONEST:
                rows[0] |= studies.gain(found[name][-1], found[HONEST][-1])
            studies.keep(args.results / "results.csv", rows, ("protocol", "seed"))
            print(f"{name}, seed {seed}: accuracy {rows[0]['accuracy']:.3f}", flush=True)
    trained = [name for name, protocol in PROTOCOLS.items() if not protocol.trains_as]
    seed = args.seeds[0]
    audits = [audited(name, out / f"{name}_{seed}.csv", out) for name in trained]
    audits += [next(a for a in audits if a["protocol"] == p.trains_as) | {"protocol": n}
               for n, p in PROTOCOLS.items() if p.trains_as]  # fmt: skip
    studies.keep(args.results / "audit.csv", audits, ("protocol",))
    picture.draw(args.results)
    page(args.results)


if __name__ == "__main__":
    main()
