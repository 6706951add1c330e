"""Does a network learn more from the out-of-fold probabilities of five networks than from the grades alone?

    python -m experiments.distillation.run FOLDER [--recipe long] [--with KEY=VALUE ...]

FOLDER is Chen 2018 with {train,val}/{0..4}/9001104R.jpg. Five networks, one per fold of the train split, are the
teacher; the validation split is in none of them. Then one network per seed trains on the grades alone, and others on
the grades and the teacher's probabilities. All have the same recipe: `short` ranks within an hour, `long` is that of
the grader in the box. Interrupted steps resume. Writes results.csv and the table of README.md: the validation split,
each checkpoint with its mirrored images averaged, the five networks averaged, and the out-of-fold predictions of the
train split. The test split is not opened. Research use only, not a medical device.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import studies
from koa_lightning.config.overrides import quote
from koa_lightning.metrics.tables import read_predictions

HERE = Path(__file__).parent
SHORT = (
    "data=chen2018", "model=efflite0", "model.weights=imagenet", "loss=soft_ordinal", "augment=strong",
    "data.image_size=144", "data.top=0.25", "data.bottom=0.85", "data.fit=stretch", "optimizer.lr=1e-3",
    "callbacks.ema.decay=0.99", "callbacks.early_stopping=null", "trainer=cpu", "trainer.max_epochs=4", "explain=none",
)  # fmt: skip
LONG = ("experiment=chen2018_grader", "explain=none")
ARMS = {
    "teacher 0.5": ("teacher=table", "teacher.weight=0.5"),
    "teacher 1": ("teacher=table", "teacher.weight=1"),  # the grades themselves are not seen
    "a soft label per grade": ("teacher=noise",),
}
RECIPES = {  # of each: its overrides and its arms
    "short": (SHORT, ("teacher 0.5", "teacher 1")),
    "long": (LONG, ("teacher 0.5", "a soft label per grade")),
}
FOLDS = ("data.folds=5", "data.fold_val=false")
SEEDS = (42, 1)


def folds(recipe: Sequence[str], out: Path) -> tuple[Path, list[Path], dict[str, Any]]:
    """Train the teacher; return its out-of-fold table, its checkpoints and its row."""
    folder = out / "folds"
    cost = studies.cross_validate(folder, [*recipe, *FOLDS])
    files = [Path(json.loads(file.read_text())["checkpoint"]) for file in sorted(folder.glob("fold_*/done.json"))]
    table = folder / "predictions.csv"
    predictions = read_predictions(table)
    row = {"name": "each of five folds, out of fold", "split": "train, out of fold", "knees": len(predictions)}
    return table, files, {**row, **cost, **studies.measure(predictions)}


def student(recipe: Sequence[str], root: str, out: Path, seed: int, arm: str, own: Sequence[str]) -> dict[str, Any]:
    """Train one network on the grades and what its arm adds to them; return its `row` and its `predictions`."""
    name = f"seed {seed}, {arm}"
    folder = out / name.replace(", ", "_").replace(" ", "_")
    done = studies.train(folder, [*recipe, f"seed={seed}", *own])
    predictions = _on_validation(root, [Path(done["checkpoint"])], folder)
    row = {"name": name, "split": "val", "knees": len(predictions)}
    row |= {key: done[key] for key in ("best_epoch", "minutes_alone", "commit")}
    return {"row": row | studies.measure(predictions), "predictions": predictions}


def _on_validation(root: str, files: Sequence[Path], folder: Path) -> pd.DataFrame:
    return studies.evaluate(files, folder / "val_flip", [*studies.PLAIN, "tta=flip", "data=chen2018", root])


def page(results: Path) -> None:
    """Write a table of results into the page beside it, where there is one."""
    file = results.with_name("README.md")
    if not file.exists():
        return
    shown = []
    for row in pd.read_csv(results).to_dict("records"):
        cells = {"recipe": row["recipe"], "": row["name"], "split": row["split"], **studies.intervals(row)}
        cells["quadratic kappa median"] = studies.intervals(row, "_median")["quadratic kappa median"]
        for name in studies.GAINS:
            gain = [row.get(f"{name}_gain{end}") for end in ("", "_low", "_high")]
            words = "" if pd.isna(gain[0]) else "{:+.3f} ({:+.3f} to {:+.3f})".format(*gain)
            cells[f"gain in {name.replace('_', ' ')}"] = words
        shown.append(cells)
    studies.show(file, shown)


def main() -> None:
    """Do what is typed."""
    typed = argparse.ArgumentParser(prog="python -m experiments.distillation.run", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("--recipe", choices=list(RECIPES), default="short")
    typed.add_argument("--out", type=Path, help="where the runs go; none: outputs/distillation/RECIPE")
    typed.add_argument("--results", type=Path, default=HERE / "results.csv")
    typed.add_argument("--with", dest="more", nargs="*", default=[], help="overrides for each training")
    args = typed.parse_args()
    root = f"data.root={quote(str(args.folder.absolute()))}"
    out = (args.out or Path("outputs/distillation") / args.recipe).absolute()
    overrides, arms = RECIPES[args.recipe]
    recipe = [*overrides, root, *args.more]

    def keep(row: dict[str, Any]) -> None:
        studies.keep(args.results, [{"recipe": args.recipe, **row}], ("recipe", "name"))
        print(f"{row['name']}: accuracy {row['accuracy']:.3f}, kappa {row['quadratic_kappa']:.3f}", flush=True)
        page(args.results)

    table, files, row = folds(recipe, out)
    keep(row)
    together = _on_validation(root, files, out / "folds")
    keep({"name": "five folds averaged", "split": "val", "knees": len(together), **studies.measure(together)})
    for seed in SEEDS:
        alone = student(recipe, root, out, seed, "grades alone", ())
        keep(alone["row"])
        for arm in arms:
            taught = student(recipe, root, out, seed, arm, (*ARMS[arm], f"teacher.table={quote(str(table))}"))
            keep(taught["row"] | studies.gain(taught["predictions"], alone["predictions"]))


if __name__ == "__main__":
    main()
