"""Choose the knees for the panels of a run, and draw the panels as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from koa_lightning.config.heat_maps import is_slow
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.explain import choice
from koa_lightning.explain.cam import heat_maps
from koa_lightning.explain.methods import label
from koa_lightning.models import outputs
from koa_lightning.models.net import KneeNet
from koa_lightning.reporting import figures, saving
from koa_lightning.reporting.heat_maps import cam_panel, choose_knees


def draw_panels(
    net: KneeNet,
    dataset: KneeDataset,
    paths: Sequence[str],
    probabilities: Tensor,
    caveats: Sequence[str],
    folder: Path,
    *,
    n_worst: int,
    maps: Mapping[str, Any],
    more: bool = False,
    suffix: str = "",
) -> list[Path]:
    """Draw panels of heat maps, as METHOD and, with `more`, panel_*; return the files.

    Args:
        net: The network, on its device.
        dataset: The knees, in the order of the probabilities; unlabelled ones are omitted.
        paths: Paths of the knees.
        probabilities: float N x 5.
        caveats: Caveats to print on the figures.
        folder: Output folder.
        n_worst: Mistakes in the first panel, besides one knee per grade.
        maps: Keyword arguments of `heat_maps`, see `koa_lightning.explain.cam.asked`.
        more: Also panels by grade, by kind of mistake, and of the most and the least certain.
        suffix: Suffix of the file names, e.g. an epoch.
    """
    labelled = np.flatnonzero(dataset.grades[: len(probabilities)] >= 0)
    grade, shares = dataset.grades[labelled].astype(np.int64), probabilities[torch.from_numpy(labelled)]
    predicted, expected = shares.argmax(1).numpy(), outputs.expected_grade(shares).numpy()
    method = maps["method"]
    chosen: dict[str, choice.Chosen] = {method: (choose_knees(grade, predicted, expected, n_worst), [])}
    if more:
        chosen["panel_by_grade"] = choice.of_each_grade(grade)
        chosen["panel_by_mistake"] = choice.of_each_mistake(grade, predicted, shares.numpy())
        chosen["panel_most_certain"], chosen["panel_least_certain"] = choice.by_certainty(shares.numpy())
    rows = np.unique(np.concatenate([places for places, _ in chosen.values()]).astype(np.int64))
    if is_slow(method):
        print(f"{method} of {len(rows)} knees: about 1,300 passes through the network each", flush=True)
    batch = dataset.__getitems__(labelled[rows].tolist())
    device = next(net.parameters()).device
    # explain the reported grades, which calibration and flipping may have changed
    heat = heat_maps(net, net.normalise(batch["image"].to(device)), predicted[rows], **maps)
    files = []
    for name, (places, notes) in chosen.items():
        if not places:
            continue  # no mistakes
        at = np.searchsorted(rows, places)
        figure = cam_panel(
            batch["image"][at, 0].numpy(),
            heat[at],
            grade[places],
            predicted[places],
            shares[places].numpy(),
            [Path(paths[row]).name for row in labelled[places]],
            caveats,
            notes,
            label(method, maps["target"]),
        )
        files += saving.save(figure, folder / f"{name}{suffix}")
    return files


def draw_graded(
    net: KneeNet,
    dataset: KneeDataset,
    paths: Sequence[str],
    logits: Tensor,
    caveats: Sequence[str],
    folder: Path,
    *,
    title: str,
    n_worst: int | None,
    maps: Mapping[str, Any],
    suffix: str = "",
    probabilities: Tensor | None = None,
    more_panels: bool = False,
) -> list[Path]:
    """Draw the confusion matrix and panels of heat maps of graded knees; return the files.

    Args:
        net: The network, on its device.
        dataset: The knees, in the order of the logits; unlabelled ones are omitted from the matrix.
        paths: Paths of the knees.
        logits: float N x K.
        caveats: Caveats to print on the figures.
        folder: Output folder.
        title: Name of the split.
        n_worst: Mistakes in the panel, besides one knee per grade; None: no panel.
        maps: What the panels show, see `koa_lightning.explain.cam.asked`.
        suffix: Suffix of the panel's file name, e.g. an epoch.
        probabilities: Float N x 5, as calibrated by the checkpoint; None: the raw ones.
        more_panels: See `koa_lightning.reporting.panels.draw_panels`.
    """
    if probabilities is None:
        probabilities = outputs.probabilities(logits, net.spec.link)
    predicted = probabilities.argmax(1)
    grade = torch.from_numpy(dataset.grades.astype(np.int64))[: len(logits)]
    labelled = grade >= 0
    files = []
    if labelled.any() and not suffix:
        pairs = grade[labelled] * outputs.N_GRADES + predicted[labelled]
        confusion = torch.bincount(pairs, minlength=outputs.N_GRADES**2).reshape(outputs.N_GRADES, outputs.N_GRADES)
        figure = figures.confusion_matrix_figure(confusion, title, caveats)
        files += saving.save(figure, folder / "confusion_matrix")
    if n_worst is not None and labelled.any():
        how: dict[str, Any] = {"n_worst": n_worst, "maps": maps, "more": more_panels, "suffix": suffix}
        files += draw_panels(net, dataset, paths, probabilities, caveats, folder, **how)
    return files
