"""Train and evaluate the runs that `runs.yaml` lists; finished steps are skipped, interrupted ones resume.

    python -m experiments.recipe.run FOLDER [NAME ...] [--with KEY=VALUE ...]   # {train,val}/{0..4}/9001104R.jpg

Each run trains on the train split; its best epoch, and what is best among the runs, is chosen on the validation split.
The test split is not opened. Writes results.csv beside this file, in the order of runs.yaml: a row for each run,
without and with the mirrored image, and for those that `together` of runs.yaml names; and results.png, the figure of
the short runs. Research use only, not a medical device.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from experiments import studies
from experiments.recipe.picture import REFERENCE, draw
from koa_lightning.checkpoint import reading
from koa_lightning.config.overrides import quote
from koa_lightning.config.run_folder import DONE_FILE
from koa_lightning.metrics.tables import read_predictions

HERE = Path(__file__).parent
TTA = ("none", "flip")
REFERENCES = (REFERENCE, "rank_fp32")  # the first that was trained beside them; fp32: on a processor without bf16


def listed() -> dict[str, dict[str, Any]]:
    """Return the runs by name, each with `asks` and all its `overrides` but the data's folder."""
    content = yaml.safe_load((HERE / "runs.yaml").read_text())
    runs = {}
    for name, entry in content["runs"].items():
        own = entry["overrides"] if "overrides" in entry else [*content["rank"], *entry["rank"]]
        first = entry.get("common", content["common"])
        runs[name] = {"asks": entry["asks"], "own": own, "overrides": [*first, *own, f"name={name}"]}
    return runs


def ensembles() -> dict[str, list[str]]:
    """Return which runs are measured together, by the name of their rows."""
    together: dict[str, list[str]] = yaml.safe_load((HERE / "runs.yaml").read_text())["together"]
    return together


def rows_of(name: str, run: dict[str, Any], root: Path, out: Path, more: list[str]) -> list[dict[str, Any]]:
    """Train and measure one run; return its rows of the table."""
    done = studies.train(out / name, [*run["overrides"], f"data.root={quote(str(root))}", *more])
    best = Path(done["checkpoint"])
    record = reading.read(best).record
    config = record.config
    facts = {
        "name": name,
        "asks": run["asks"],
        "overrides": " ".join(run["own"]),
        "model": record.net.name,
        "image_size": record.preprocessing.image_size,
        "train_knees": sum(record.data.counts["train"]),
        "epochs": config["trainer"]["max_epochs"],
        "seed": config["seed"],
        "best_epoch": done["best_epoch"],
        "minutes_alone": None if (minutes := done["minutes_alone"]) is None else round(minutes, 1),
        "precision": record.plan.precision,
        "data": record.data.fingerprint,
        "commit": done["commit"],
    }
    return evaluated(facts, [best], out / name, out)


def rows_together(name: str, members: list[str], out: Path) -> list[dict[str, Any]]:
    """Measure runs together that are done, their probabilities averaged; return the rows of the table."""
    runs = [json.loads((out / member / DONE_FILE).read_text()) for member in members]
    facts = {"name": name, "asks": "together", "overrides": " ".join(members)}
    return evaluated(facts, [Path(done["checkpoint"]) for done in runs], out / name, out)


def evaluated(facts: dict[str, Any], checkpoints: list[Path], folder: Path, out: Path) -> list[dict[str, Any]]:
    """Grade the validation split without and with mirrored images; return the rows, with gains and their reference."""
    rows = []
    for tta in TTA:
        predictions = studies.evaluate(checkpoints, folder / f"val_{tta}", [*studies.PLAIN, f"tta={tta}"])
        row = facts | {"tta": tta, "knees": len(predictions), **studies.measure(predictions)}
        against = next((name for name in REFERENCES if (out / name / f"val_{tta}").exists()), facts["name"])
        if facts["name"].startswith(f"{REFERENCE}_") and against != facts["name"]:
            gains = studies.gain(predictions, read_predictions(out / against / f"val_{tta}"))
            row |= {"against": against, **gains}
        rows.append(row)
    return rows


def main() -> None:
    """Run the typed command."""
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
    out = args.out.absolute()
    for name in args.names or runs:
        _keep(args.results, rows_of(name, runs[name], args.folder.absolute(), out, args.more))
    for name, members in ensembles().items():
        if all((out / member / DONE_FILE).exists() for member in members):
            _keep(args.results, rows_together(name, members, out))
    figure = draw(args.results)
    print(figure or f"no figure: it shows gains over the run {REFERENCE}, which is not in {args.results}", flush=True)


def _keep(results: Path, rows: list[dict[str, Any]]) -> None:
    studies.keep(results, rows, ("name", "tta"), [*listed(), *ensembles()])
    name, accuracy, kappa = (rows[-1][key] for key in ("name", "accuracy", "quadratic_kappa"))
    print(f"{name}: accuracy {accuracy:.3f}, quadratic kappa {kappa:.3f} (flip)", flush=True)


if __name__ == "__main__":
    main()
