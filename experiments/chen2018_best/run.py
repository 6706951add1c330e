"""Train the best recipe with several seeds, measure each and all together; what was ended goes on.

    python -m experiments.chen2018_best.run FOLDER [--seeds 42 1 2] [--with KEY=VALUE ...]   # {train,val}/{0..4}/NAME

Each seed is one `python -m koa_lightning.train experiment=chen2018_best seed=N data.root=FOLDER`. Writes results.csv
beside this file: the validation part, each checkpoint with its mirrored images averaged, and the ensemble of all, with
the fingerprint of the data; whoever has the test part can measure the same checkpoints there. Research use only, not a
medical device.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import studies
from koa_lightning import checkpoint

HERE = Path(__file__).parent
EXPERIMENT = "experiment=chen2018_best"
PART = ["split=val", "tta=flip", "calibrated=false", "tracking=none"]


def main() -> None:
    """Do what is typed."""
    typed = argparse.ArgumentParser(prog="python -m experiments.chen2018_best.run", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    typed.add_argument("--out", type=Path, default=Path("outputs/chen2018_best"), help="where the runs go")
    typed.add_argument("--results", type=Path, default=HERE / "results.csv")
    typed.add_argument("--with", dest="more", nargs="*", default=[], help="overrides for each run")
    args = typed.parse_args()
    out, files, minutes = args.out.absolute(), list[Path](), 0.0
    for seed in args.seeds:
        folder, own = out / f"seed_{seed}", [EXPERIMENT, f"seed={seed}"]
        done = studies.train(folder, [*own, f"data.root={args.folder.absolute()}", *args.more])
        files.append(Path(done["checkpoint"]))
        minutes += done["minutes_alone"]
        row = {"name": f"seed {seed}", "command": f"python -m koa_lightning.train {' '.join(own)} data.root=FOLDER"}
        row |= {"best_epoch": done["best_epoch"], "minutes_alone": done["minutes_alone"], "commit": done["commit"]}
        _keep(args.results, row, files[-1:], folder / "val_flip")
    if len(files) > 1:
        row = {"name": f"ensemble of {len(files)} seeds", "command": "", "minutes_alone": minutes}
        _keep(args.results, row, files, out / f"val_flip_of_{'_'.join(map(str, args.seeds))}")
    page(args.results)


def page(results: Path) -> None:
    """Write a table of results into the page beside it, where there is one."""
    file = results.with_name("README.md")
    if file.exists():
        rows = pd.read_csv(results).to_dict("records")
        minutes = [{"minutes on two cores": f"{row['minutes_alone']:.0f}"} for row in rows]
        studies.show(
            file, [{"": r["name"]} | studies.intervals(r) | more for r, more in zip(rows, minutes, strict=True)]
        )


def _keep(results: Path, row: dict[str, Any], checkpoints: list[Path], folder: Path) -> None:
    predictions = studies.evaluate(checkpoints, folder, PART)
    data = checkpoint.read(checkpoints[0]).record["data"]["fingerprint"]
    studies.keep(results, [row | {"data": data, "knees": len(predictions), **studies.measure(predictions)}], ("name",))


if __name__ == "__main__":
    main()
