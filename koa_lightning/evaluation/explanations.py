"""The results of explanation tests as files, as metrics of the run, and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.explain.examine import Options, examine
from koa_lightning.explain.methods import label
from koa_lightning.explain.stages import FILE
from koa_lightning.models.net import KneeNet
from koa_lightning.reporting import saving
from koa_lightning.reporting.explain_figure import explanations_figure

FOLDER = "explanations"  # among the artifacts of the run


def check_testable(read: Checkpoint) -> None:
    """Stop before long work if the tests cannot be run: they change weights and take gradients.

    Raises:
        InputError: The checkpoint is an export, whose weights cannot be changed.
    """
    if read.program is not None:
        raise InputError(
            f"ckpt={read.path}: an export, whose weights the tests of heat maps cannot change; give the checkpoint "
            "that it was made from, or type explain.tests=false"
        )


def record_tests(
    net: KneeNet,
    data: KneeDataModule,
    split: str,
    explain: DictConfig,
    folder: Path,
    run: Any,
    *,
    read: Checkpoint,
    caveats: Sequence[str],
    quiet: bool,
) -> dict[str, Any]:
    """Test the explanations of a network on a split; write explanations.json, .csv and the figure, and log them.

    Args:
        net: In eval mode, on its device.
        data: The data with that split.
        split: Its name.
        explain: The config group `explain`.
        folder: Where the files go.
        run: The tracked run, open.
        read: The checkpoint that the network came from.
        caveats: The caveats that every figure must show.
        quiet: No progress bar and no output.

    Returns:
        The content of explanations.json, see `koa_lightning.explain.examine`.
    """
    options = Options(
        explain.method, explain.target, explain.n_tested, explain.n_road, data.eval_batch_size, quiet=quiet
    )
    folder.mkdir(parents=True, exist_ok=True)
    knees = data.tables[split]
    try:
        results, table = examine(net, data.datasets[split], knees, data.preprocessing, options, folder / FILE)
    except KeyboardInterrupt:
        print(f"finished tests are kept in {folder / FILE}; a run with the same folder resumes", flush=True)
        raise
    about = {"note": DISCLAIMER, "checkpoint": str(read.path), "data": data.name, "part": split, "marks": list(caveats)}
    results = {**about, **results}
    for file in _write(results, table, folder):
        run.log_artifact(file, FOLDER)
    run.log_metrics({f"explain_{split}/{name}": value for name, value in numbers(results).items()}, read.epoch)
    run.log_tags({f"explain.{name}": verdict for name, verdict in results["verdicts"].items()})
    if not quiet:
        for line in words(results):
            print(line, flush=True)
    return results


def _write(results: dict[str, Any], knees: pd.DataFrame, folder: Path) -> list[Path]:
    files = [folder / "explanations.json", folder / "explanations.csv"]
    files[0].write_text(json.dumps(results, indent=1, allow_nan=False))
    knees.to_csv(files[1], index=False)
    figure = explanations_figure(results, label(results["method"], results["target"]), results["marks"])
    return [*files, *saving.save(figure, folder / "explanations")]


def numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers to compare runs by; undefined ones are omitted."""
    faithful, layers = results["faithfulness"], results["sanity"]["layers"]
    found = {
        **{f"{test}_difference": faithful[test]["difference"] for test in faithful},
        "similarity_random_classifier": layers[0]["similarity"],
        "similarity_random_network": layers[-1]["similarity"],
        "similarity_under_noise": results["noise"]["similarity"],
        "share_inside": results["localisation"]["share"]["map"],
        "kappa_without_joint": results["shortcut"]["without_joint"],
        "kappa_only_joint": results["shortcut"]["only_joint"],
        "survives_without_joint": results["shortcut"]["survives"],
    }
    return {name: value for name, value in found.items() if value is not None}


def words(results: Mapping[str, Any]) -> list[str]:
    """Return one line per verdict, with the number that decided it."""
    faithful, local, short = results["faithfulness"], results["localisation"], results["shortcut"]
    layers = results["sanity"]["layers"]
    survives = "undefined" if short["survives"] is None else f"{short['survives']:.0%}"
    why = {
        **{test: _difference(faithful[test]) for test in faithful},
        "sanity": f"similarity to the trained map {layers[0]['similarity']:.2f} with a random classifier, "
        f"{layers[-1]['similarity']:.2f} with a random network",
        "noise": f"similarity to the map without noise {results['noise']['similarity']:.2f}",
        "localisation": f"{_share(local['share']['map'])} of the heat in the {local['region']} "
        f"({_share(local['area'])} of the picture); {_difference(local['share'])}",
        "shortcut": f"kappa {_number(short['kappa'])}, joint hidden {_number(short['without_joint'])} ({survives} "
        f"survives), joint alone {_number(short['only_joint'])}" + (f"; {short['reason']}" if short["reason"] else ""),
    }
    verdicts = results["verdicts"]
    title = f"{label(results['method'], results['target'])}, {results['n']} knees, {results['seconds']['total']:.0f} s"
    return [title, *(f"  {name:<12} {verdicts[name]:<10} {why[name]}" for name in verdicts)]


def _difference(test: Mapping[str, Any]) -> str:
    if test["low"] is None:
        return "too few patients"
    return f"against {test['against']} {test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
