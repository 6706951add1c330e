"""Train and measure what `runs.yaml` lists; what is done is not done again, what was ended goes on.

    python -m experiments.recipe.run FOLDER [NAME ...] [--with KEY=VALUE ...]   # {train,val}/{0..4}/9001104R.jpg

Each run trains on the train part; its best epoch, and what is best among the runs, is chosen on the validation part.
The test part is not opened. Writes results.csv beside this file: a row for each run, without and with the mirrored
image. Research use only, not a medical device.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from experiments import studies
from koa_lightning import checkpoint
from koa_lightning.metrics.tables import read_predictions

HERE = Path(__file__).parent
TTA = ("none", "flip")
REFERENCE = "rank"  # of the short runs, whose names begin with it


def listed() -> dict[str, dict[str, Any]]:
    """Return the runs by name, each with `asks` and all its `overrides` but the data's folder."""
    content = yaml.safe_load((HERE / "runs.yaml").read_text())
    runs = {}
    for name, entry in content["runs"].items():
        own = entry["overrides"] if "overrides" in entry else [*content["rank"], *entry["rank"]]
        first = entry.get("common", content["common"])
        runs[name] = {"asks": entry["asks"], "own": own, "overrides": [*first, *own, f"name={name}"]}
    return runs


def rows_of(name: str, run: dict[str, Any], root: Path, out: Path, more: list[str]) -> list[dict[str, Any]]:
    """Train and measure one run; return its rows of the table."""
    done = studies.train(out / name, [*run["overrides"], f"data.root={root}", *more])
    best = Path(done["checkpoint"])
    record = checkpoint.read(best).record
    config = record["config"]
    facts = {
        "name": name,
        "asks": run["asks"],
        "overrides": " ".join(run["own"]),
        "model": record["net"]["name"],
        "image_size": record["preprocessing"]["image_size"],
        "train_knees": sum(record["data"]["counts"]["train"]),
        "epochs": config["trainer"]["max_epochs"],
        "seed": config["seed"],
        "best_epoch": done["best_epoch"],
        "minutes_alone": round(done["minutes_alone"], 1),
        "precision": record["plan"]["precision"],
        "data": record["data"]["fingerprint"],
        "commit": done["commit"],
    }
    rows = []
    for tta in TTA:
        predictions = studies.evaluate([best], out / name / f"val_{tta}", [*studies.PLAIN, f"tta={tta}"])
        row = facts | {"tta": tta, "knees": len(predictions), **studies.measure(predictions)}
        reference = out / REFERENCE / f"val_{tta}"
        if name.startswith(f"{REFERENCE}_") and reference.exists():
            row |= studies.gain(predictions, read_predictions(reference))
        rows.append(row)
    return rows


def main() -> None:
    """Do what is typed."""
    typed = argparse.ArgumentParser(prog="python -m experiments.recipe.run", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("names", nargs="*", help="of runs.yaml; none: all")
    typed.add_argument("--out", type=Path, default=Path("outputs/recipe"), help="where the runs go")
    typed.add_argument("--results", type=Path, default=HERE / "results.csv")
    typed.add_argument("--with", dest="more", nargs="*", default=[], help="overrides for each run")
    args, runs = typed.parse_args(), listed()
    unknown = [name for name in args.names if name not in runs]
    if unknown:
        typed.error(f"{unknown[0]}: no such run; there are {', '.join(runs)}")
    for name in args.names or runs:
        rows = rows_of(name, runs[name], args.folder.absolute(), args.out.absolute(), args.more)
        studies.keep(args.results, rows, ("name", "tta"))
        best = rows[-1]
        print(
            f"{name}: accuracy {best['accuracy']:.3f}, quadratic kappa {best['quadratic_kappa']:.3f} (flip)", flush=True
        )


if __name__ == "__main__":
    main()
