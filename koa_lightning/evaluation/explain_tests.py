"""Test the heat maps of a checkpoint: `python -m koa_lightning.explain_tests ckpt=FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import reading
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import configured
from koa_lightning.errors import InputError
from koa_lightning.evaluation.data import data_for, run_of
from koa_lightning.evaluation.explanations import check_testable, record_tests
from koa_lightning.explain import cam, sanity
from koa_lightning.tracking.begin import closing
from koa_lightning.tracking.find import find_checkpoint
from koa_lightning.tracking.none import NoRun

RANDOMISED = "random weights in place of the checkpoint's"
_FOR_STATISTICS = 128  # knees


@configured
def explain_tests(cfg: DictConfig) -> dict[str, Any]:
    """Test the explanations of a checkpoint on a split; write, draw, log and print the results.

    Args:
        cfg: The composed config `explain_tests`.

    Returns:
        The content of `explanations.json`, see `koa_lightning.explain.examine`, and `out`.

    Raises:
        InputError: Any error that the user can fix.
    """
    validate(cfg)
    if cfg.split not in ("val", "train"):
        raise InputError(
            f"split={cfg.split}: only eval opens that split; type python -m koa_lightning.eval ckpt={cfg.ckpt} "
            f"split={cfg.split} explain.tests=true"
        )
    if not cfg.explain.enabled:
        raise InputError("explain=none: there are no maps to test; type explain=gradcam")

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    read = reading.read(find_checkpoint(str(cfg.ckpt), cfg.tracking.uri))
    check_testable(read)
    net = read.network()
    cam.check(net, read.preprocessing.image_size, "koa_lightning.eval", **cam.asked(cfg.explain, net))
    data = data_for(cfg, read).prepare((cfg.split,))
    caveats = list(dict.fromkeys([*read.caveats, *data.caveats]))
    if cfg.randomised:
        knees = data.datasets[cfg.split]
        some = knees.__getitems__(range(min(len(knees), _FOR_STATISTICS)))["image"].float() / 255
        sanity.randomise_all(net, some, data.eval_batch_size)
        caveats.append(RANDOMISED)
    run = NoRun() if cfg.randomised else run_of(cfg, read, data, caveats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with closing(run):
        results = record_tests(
            net.to(device), data, cfg.split, cfg.explain, folder, run, read=read, caveats=caveats, quiet=cfg.quiet
        )
    for caveat in caveats:
        print(f"WARNING: these results carry the caveat: {caveat}")
    print(DISCLAIMER)
    print(f"written to {folder}: {', '.join(sorted(file.name for file in folder.glob('explanations.*')))}")
    return {**results, "out": str(folder)}
