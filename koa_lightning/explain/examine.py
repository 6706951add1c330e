"""All tests of a network's explanations in one run, and their results.

`explanations.json` holds (every verdict is "passed", "failed" or "not judged", with its `rule` beside it):

    {method, target, n, n_patients, part, data, checkpoint, marks, note,
     faithfulness: {deletion | insertion | road: {map, random, centre, difference, low, high,
                    against, n, verdict, rule}},
         deletion and insertion also with curve: {map, random, centre}: the output at 0, 10, ... 100 % of the pixels
     sanity: {layers: [{layer, similarity, low, high}], n, repeats, verdict, rule},
     noise: {similarity, low, high, between_knees, deviation, n, verdict, rule},
     localisation: {region, area, share: {as deletion}, pointing: {as deletion}, n, verdict, rule},
     shortcut: {kappa, without_joint, only_joint, survives, survives_only_joint (each with _low, _high),
                blur: {the same}, fill, n, verdict, reason, rule},
     verdicts: {deletion, insertion, road, sanity, noise, localisation, shortcut},
     seconds: {by test, and total}}

A number that is undefined is null. Areas of deletion and insertion are in the unit of the output: a probability, or
grades if the target is "expected".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from koa_lightning.config.heat_maps import is_slow
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.explain import controls, faithfulness, localisation, sanity, shortcut
from koa_lightning.explain.stages import Stages, key_of
from koa_lightning.explain.subject import Subject
from koa_lightning.models import outputs
from koa_lightning.models.net import KneeNet

N_SANITY = 32  # knees for the randomisation test, where each layer costs as much as all maps


@dataclass(frozen=True)
class Options:
    """How explanations are tested.

    Attributes:
        method, target: As for `koa_lightning.explain.cam.heat_maps`.
        n_tested: Knees to test, chosen grade by grade; the shortcut test takes all.
        n_road: Knees for ROAD.
        batch_size: Images per pass.
        seed: Of the choice, the controls and the noise.
        quiet: No progress bar and no output.
    """

    method: str = "gradcam"
    target: str = "grade"
    n_tested: int = 100
    n_road: int = 16
    batch_size: int = 32
    seed: int = 0
    quiet: bool = False


def examine(
    net: KneeNet,
    dataset: KneeDataset,
    knees: pd.DataFrame,
    preprocessing: Preprocessing,
    options: Options,
    keep: Path | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run all tests.

    Args:
        net: In eval mode, on its device; left as found.
        dataset: The knees, in the order of the table.
        knees: path, patient, side, grade (-1 where unknown: omitted).
        preprocessing: Of the images; the regions go through it too.
        options: What to test, and on how many knees.
        keep: A file for the tests that are finished, so that an interrupted run resumes; None: nothing is kept.

    Returns:
        The content of `explanations.json`, without part, data, checkpoint, marks and note; and a table with one row per
        tested knee: path, patient, side, grade, predicted, and TEST_MAP for each test and map.

    Raises:
        InputError: No knee is labelled, or the network has no such maps.
    """
    labelled = np.flatnonzero(dataset.grades >= 0)
    if not len(labelled):
        raise InputError("explanations can be tested only on labelled knees, and there are none")
    grades = dataset.grades[labelled].astype(np.int64)
    chosen = labelled[choose(grades, options.n_tested, options.seed)]
    subject = _subject(net, dataset, knees, chosen, options)
    passes = _passes(subject, options, len(labelled))
    say = (lambda line: None) if options.quiet else _say
    say(
        f"testing {options.method} on {len(chosen)} knees, {min(options.n_road, len(chosen))} of them by ROAD, and "
        f"grading {len(labelled)} with parts hidden: {sum(passes.values()):,} images through the network (for fewer, "
        "lower explain.n_tested and explain.n_road)"
    )
    paths = knees["path"].iloc[labelled].tolist()
    key = key_of(net, paths, preprocessing, replace(options, quiet=True)) if keep else ""
    stages = Stages(keep, key, say)
    left = sum(n for name, n in passes.items() if name not in stages.done)
    with Progress(console=Console(stderr=True), disable=options.quiet) as progress:
        task = progress.add_task("images", total=left)
        subject = replace(subject, tick=lambda n: progress.advance(task, n))
        region = _regions(knees.iloc[chosen], dataset.shapes[chosen], preprocessing)
        results, columns = _of_maps(subject, *region, options, stages)
        patients, everyone = knees["patient"].iloc[labelled].tolist(), dataset.__getitems__(list(labelled))["image"]
        bands = localisation.joint_bands(dataset.shapes[labelled], knees["side"].iloc[labelled].tolist(), preprocessing)
        results["shortcut"] = stages(
            "shortcut", lambda: shortcut.shortcut(subject.logits, everyone, grades, patients, bands, net.spec.link)
        )
    tests = {**results["faithfulness"], **{name: test for name, test in results.items() if name != "faithfulness"}}
    about = {"method": options.method, "target": options.target, "n": len(chosen)}
    about["n_patients"] = len(np.unique(subject.patients))
    results |= {"verdicts": {name: test["verdict"] for name, test in tests.items()}, "seconds": stages.total()}
    rows = knees.iloc[chosen].reset_index(drop=True)
    table = rows[["path", "patient", "side", "grade"]].assign(predicted=subject.grades, **columns)
    return {**about, **results}, table


def _say(line: str) -> None:
    print(line, flush=True)


def choose(grades: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows of n random knees, taking the grades in turn, so that each is equally frequent while it lasts."""
    shuffled = np.random.default_rng(seed).permutation(len(grades))
    turn = pd.Series(grades[shuffled]).groupby(grades[shuffled]).cumcount().to_numpy()
    return shuffled[np.lexsort((grades[shuffled], turn))][:n]


def _of_maps(
    subject: Subject, masks: np.ndarray, region: str, options: Options, stages: Stages
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run the tests of the maps; return the results, and the numbers of each knee."""
    seed, repeats = options.seed, _repeats(options)
    ours = subject.maps()
    maps = {
        "map": ours,
        "random": controls.random_maps(len(subject), subject.last_map[1:], subject.shape, seed),
        "centre": controls.centre_maps(len(subject), subject.shape),
    }
    faithful, columns = stages(
        "faithfulness", lambda: faithfulness.faithfulness(subject, maps, n_road=options.n_road, seed=seed)
    )
    few = subject.first(N_SANITY)
    sane = stages("sanity", lambda: sanity.randomisation(few, ours[:N_SANITY], repeats=repeats, seed=seed))
    still = stages("noise", lambda: sanity.noise(subject, ours, repeats=repeats, seed=seed))
    local, more = localisation.localisation(maps, masks, subject.patients, region)
    return {"faithfulness": faithful, "sanity": sane, "noise": still, "localisation": local}, columns | more


def _subject(net: KneeNet, dataset: KneeDataset, knees: pd.DataFrame, rows: np.ndarray, options: Options) -> Subject:
    images = dataset.__getitems__(list(rows))["image"].float() / 255
    patients = tuple(knees["patient"].iloc[rows])
    unknown = np.zeros(len(rows), np.int64)
    subject = Subject(net, images, unknown, patients, options.method, options.target, options.batch_size)
    predicted = outputs.probabilities(subject.logits(images), net.spec.link).argmax(1).numpy()
    return replace(subject, grades=predicted)


def _regions(knees: pd.DataFrame, shapes: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, str]:
    """Return the region where the heat should lie, and its name."""
    paths, sides = knees["path"].tolist(), knees["side"].tolist()
    if all(path.startswith("phantom://") for path in paths):
        return localisation.phantom_masks(paths, sides, preprocessing), "signs of the phantom"
    return np.stack(localisation.joint_bands(shapes, sides, preprocessing)), "joint band"


def _repeats(options: Options) -> int:
    return 1 if is_slow(options.method) else sanity.REPEATS


def _passes(subject: Subject, options: Options, n_all: int) -> dict[str, int]:
    """Return how many images each test sends through the network."""
    n, few, a_map, repeats = len(subject), min(N_SANITY, len(subject)), subject.passes_a_map, _repeats(options)
    curves = 2 * 3 * (faithfulness.STEPS + 1) * n
    return {
        "maps": n * a_map,
        "faithfulness": curves + 2 * 3 * len(faithfulness.ROAD_SHARES) * min(options.n_road, n),
        "sanity": repeats * len(sanity.layers_of(subject.net)) * few * (1 + a_map),
        "noise": repeats * n * a_map,
        "shortcut": (1 + 2 * len(shortcut.FILLS)) * n_all,
    }
