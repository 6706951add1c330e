"""Grade radiographs: `python -m koa_lightning.predict ckpt=FILE input=FILE|FOLDER|'GLOB'`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from koa_lightning import cli, speed
from koa_lightning.config import validate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from koa_lightning.checkpoint import Checkpoint
    from koa_lightning.models.net import KneeNet


def predict(cfg: DictConfig) -> dict[str, Any]:
    """Grade images; write a table, a JSON file and an overlay a file.

    Args:
        cfg: The config `predict`, composed.

    Returns:
        `exit_code` (1 where a file could not be read), `n_graded`, `n_failed`, `out`.

    Raises:
        InputError: No image at all, or a checkpoint that cannot be read.
    """
    validate(cfg)
    speed.tune_allocator()
    import pandas as pd

    from koa_lightning import checkpoint, table
    from koa_lightning.data.images import find_images
    from koa_lightning.tracking.find import find_checkpoint

    paths = find_images(str(cfg.input))
    read = checkpoint.read(find_checkpoint(str(cfg.ckpt), cfg.tracking.uri))
    net = read.network()
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    failed: dict[str, str] = {}
    for start in range(0, len(paths), cfg.batch_size):
        some = paths[start : start + cfg.batch_size]
        tables += _grade_some(cfg, net, read, some, folder, failed)
        if not cfg.quiet and len(paths) > cfg.batch_size:
            print(f"{min(start + cfg.batch_size, len(paths))} of {len(paths)}", flush=True)
    if tables:
        _write(pd.concat(tables, ignore_index=True), read, folder)
    else:
        table.write(pd.DataFrame(columns=table.COLUMNS), folder)
    for line in failed.values():
        cli.say_error(line)
    (folder / "failed.json").write_text(json.dumps(failed, indent=1))
    graded = len(paths) - len(failed)
    for mark in read.marks:
        print(f"WARNING: {mark}: this model knows nothing about real knees or was not trained from ImageNet")
    print("research use only, not a medical device")
    print(f"{graded} graded, {len(failed)} not readable; written to {folder}")
    code = cli.DONE if not failed else cli.PARTLY
    return {"exit_code": code, "n_graded": graded, "n_failed": len(failed), "out": str(folder)}


def _grade_some(
    cfg: DictConfig,
    net: KneeNet,
    read: Checkpoint,
    paths: list[Path],
    folder: Path,
    failed: dict[str, str],
) -> list[pd.DataFrame]:
    """Grade one batch of files; those that cannot be read are added to `failed`."""
    import numpy as np
    import pandas as pd
    import torch

    from koa_lightning import table
    from koa_lightning.data.images import read_image
    from koa_lightning.errors import InputError
    from koa_lightning.inference import grade_logits

    names, images = [], []
    for path in paths:
        try:
            images.append(read.preprocessing.apply(read_image(path), str(cfg.side)))
            names.append(str(path))
        except InputError as error:
            failed[str(path)] = str(error)
    if not names:
        return []
    batch = np.stack(images)
    tensor = torch.from_numpy(batch).unsqueeze(1)
    with torch.no_grad():
        logits = grade_logits(net, tensor, cfg.tta == "flip")
    rows = table.predictions_table(pd.DataFrame({"path": names, "side": cfg.side}), logits, net.spec.link)
    rows["name"] = [read.record["grade_names"][grade] for grade in rows["predicted"]]
    rows["overlay"] = _overlays(net, batch, names, folder) if cfg.overlays else ""
    return [rows]


def _overlays(net: KneeNet, batch: np.ndarray, names: list[str], folder: Path) -> list[str]:
    import hashlib

    import torch
    from PIL import Image

    from koa_lightning.explain.cam import gradcam
    from koa_lightning.explain.panel import overlay

    heat = gradcam(net, net.normalise(torch.from_numpy(batch).unsqueeze(1)), link=net.spec.link)
    (folder / "overlays").mkdir(exist_ok=True)
    files = []
    for image, one, name in zip(batch, heat, names, strict=True):
        tag = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()  # two folders may hold the same name
        file = folder / "overlays" / f"{Path(name).stem}-{tag}.png"
        Image.fromarray(overlay(image, one)).save(file)
        files.append(str(file))
    return files


def _write(rows: pd.DataFrame, read: Checkpoint, folder: Path) -> None:
    from koa_lightning import table

    table.write(rows, folder)
    knees = [
        {
            "path": row["path"],
            "grade": int(row["predicted"]),
            "name": row["name"],
            "expected_grade": round(float(row["expected_grade"]), 4),
            "probabilities": [round(float(row[column]), 6) for column in table.PROBABILITIES],
            "overlay": row["overlay"],
        }
        for row in rows.to_dict("records")
    ]
    note = {"note": "research use only, not a medical device", "marks": read.marks, "checkpoint": str(read.path)}
    (folder / "predictions.json").write_text(json.dumps({**note, "knees": knees}, indent=1))
    for knee in knees[:20]:
        shares = " ".join(f"{p:.2f}" for p in knee["probabilities"])
        print(f"{knee['path']}: grade {knee['grade']} {knee['name']} (expected {knee['expected_grade']:.2f}; {shares})")


def main() -> None:
    """Entry point of `koa-predict` and `python -m koa_lightning.predict`."""
    cli.launch("predict", "koa_lightning.predict:predict")


if __name__ == "__main__":
    main()
