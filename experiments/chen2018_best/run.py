"""Train the best recipe with several seeds, the ensemble of networks, and another view; measure each, and together.

    python -m experiments.chen2018_best.run FOLDER [seeds|networks|views] [--named WORDS] [--with KEY=VALUE ...]

FOLDER is Chen 2018. Interrupted steps resume; `--named "again"` keeps the rows of a repetition beside those that it
repeats. A seed is one `python -m koa_lightning.train experiment=chen2018_best seed=N data.root=FOLDER`
and the ensemble is one `python -m koa_lightning.train -m experiment=chen2018_ensemble data.root=FOLDER`.
The other view is Lite1 on the whole radiograph instead of the rows around the joint, beside those networks. Writes
results.csv beside this file: the validation split, each checkpoint with its mirrored images averaged, and each
ensemble, with the fingerprint of the data; whoever has the test split can measure the same checkpoints there. Research
use only, not a medical device.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import studies
from koa_lightning.checkpoint.reading import read
from koa_lightning.config.overrides import quote

HERE = Path(__file__).parent
ONE, ALL = "experiment=chen2018_best", "experiment=chen2018_ensemble"
NETWORK, WHOLE = "tf_efficientnet_lite1", ["data.top=0", "data.bottom=1"]
PART = ["split=val", "tta=flip", "calibrated=false", "tracking=none"]
PARTS = ("seeds", "networks", "views")
PROGRAM = "python -m koa_lightning.train"
Keep = Callable[[dict[str, Any], list[Path], Path], None]  # measures a row's checkpoints in a folder, and keeps it


def seeds(root: str, out: Path, numbers: Sequence[int], more: Sequence[str], keep: Keep) -> None:
    """Train the recipe with each seed; measure each, and all together."""
    files, minutes = list[Path](), list[float | None]()
    for number in numbers:
        folder, own = out / f"seed_{number}", [ONE, f"seed={number}"]
        done = studies.train(folder, [*own, root, *more])
        files.append(Path(done["checkpoint"]))
        minutes.append(done["minutes_alone"])
        row = {"name": f"seed {number}", "command": f"{PROGRAM} {' '.join(own)} data.root=FOLDER"}
        row |= {name: done[name] for name in ("best_epoch", "minutes_alone", "commit")}
        keep(row, files[-1:], folder / "val_flip")
    if len(files) > 1:
        row = {"name": f"ensemble of {len(files)} seeds", "command": "", "minutes_alone": studies.total(minutes)}
        keep(row, files, out / f"val_flip_of_{'_'.join(map(str, numbers))}")


def networks(root: str, out: Path, more: Sequence[str], keep: Keep) -> None:
    """Train the ensemble as the sweep that it is; measure each network, and all together."""
    done = studies.sweep(out / "networks", [ALL, root, *more])
    files = [Path(run["checkpoint"]) for run in done["runs"]]
    for file, run in zip(files, done["runs"], strict=True):
        net = read(file).record.net.name
        own = f"{PROGRAM} {ALL} model.name={net} data.root=FOLDER"
        row = {"name": f"{net} of the ensemble", "command": own, "best_epoch": run["best_epoch"]}
        keep(row | {"commit": done["commit"]}, [file], file.parents[1] / "val_flip")
    row = {"name": f"ensemble of {len(files)} networks", "command": f"{PROGRAM} -m {ALL} data.root=FOLDER"}
    row |= {name: done[name] for name in ("minutes_alone", "commit")}
    keep(row, files, out / "networks" / "val_flip")


def views(root: str, out: Path, more: Sequence[str], keep: Keep) -> None:
    """Train a network of the ensemble on the whole radiograph; measure it, and what it adds to the ensemble."""
    files = [Path(run["checkpoint"]) for run in studies.sweep(out / "networks", [ALL, root, *more])["runs"]]
    own = [ALL, f"model.name={NETWORK}", *WHOLE]
    done = studies.train(out / "whole", [*own, root, *more])
    row = {"name": f"{NETWORK} on the whole radiograph", "command": f"{PROGRAM} {' '.join(own)} data.root=FOLDER"}
    row |= {name: done[name] for name in ("best_epoch", "minutes_alone", "commit")}
    keep(row, [Path(done["checkpoint"])], out / "whole" / "val_flip")
    row = {
        "name": f"ensemble of {len(files)} networks and the whole radiograph",
        "command": "",
        "commit": done["commit"],
    }
    keep(row, [*files, Path(done["checkpoint"])], out / "whole" / "val_flip_of_all")


def page(results: Path) -> None:
    """Write a table of results into the page beside it, if there is one."""
    file = results.with_name("README.md")
    if file.exists():
        rows = pd.read_csv(results).to_dict("records")
        minutes = ["" if pd.isna(row["minutes_alone"]) else f"{row['minutes_alone']:.0f}" for row in rows]
        studies.show(
            file,
            [{"": row["name"]} | studies.intervals(row) | studies.intervals(row, "_median") | {"minutes": took}
             for row, took in zip(rows, minutes, strict=True)],
        )  # fmt: skip


def main() -> None:
    """Run the typed command."""
    typed = argparse.ArgumentParser(prog="python -m experiments.chen2018_best.run", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("parts", nargs="*", help="none: all", metavar="|".join(PARTS))
    typed.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    typed.add_argument("--out", type=Path, default=Path("outputs/chen2018_best"), help="where the runs go")
    typed.add_argument("--results", type=Path, default=HERE / "results.csv")
    typed.add_argument("--named", default="", help="words after each row's name: a repetition, kept beside the first")
    typed.add_argument("--with", dest="more", nargs="*", default=[], help="overrides for each training")
    args = typed.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        typed.error(f"{unknown[0]}: there are {', '.join(PARTS)}")
    parts = args.parts or PARTS
    root, out = f"data.root={quote(str(args.folder.absolute()))}", args.out.absolute()
    keep = partial(_keep, args.results, args.named)
    if "seeds" in parts:
        seeds(root, out, args.seeds, args.more, keep)
    if "networks" in parts:
        networks(root, out, args.more, keep)
    if "views" in parts:
        views(root, out, args.more, keep)
    page(args.results)


def _keep(results: Path, named: str, row: dict[str, Any], checkpoints: list[Path], folder: Path) -> None:
    predictions = studies.evaluate(checkpoints, folder, PART)
    data = read(checkpoints[0]).record.data.fingerprint
    row |= {"name": f"{row['name']} {named}".strip(), "data": data, "knees": len(predictions)}
    studies.keep(results, [row | studies.measure(predictions)], ("name",))


if __name__ == "__main__":
    main()
