"""Export a checkpoint for other programs: `python -m koa_lightning.export format=onnx|openvino|torchscript`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import exported
from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.config.compose import validate
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.one_knee import OneKnee
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.evaluation.data import data_for
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.predictor import Predictor, prepared
from koa_lightning.evaluation.results import split_metrics
from koa_lightning.serving.export import formats
from koa_lightning.serving.export.card import card
from koa_lightning.serving.export.graph import Grader
from koa_lightning.serving.export.parity import N_KNEES, Parity, compare, noise
from koa_lightning.serving.export.quantise import quantised

NAME = "grader"


@dataclass(frozen=True)
class _Knees:
    """Prepared images uint8 N x 1 x S x S, and their description in words."""

    images: Tensor
    words: str


def export(cfg: DictConfig) -> dict[str, Any]:
    """Write a checkpoint, or an ensemble of several, as one file (OpenVINO: a pair) for other programs.

    The file's input is the uint8 image of the preprocessing. Its outputs are calibrated probabilities, the expected and
    the median grade and the class activation map. It holds the record, the card, checksum and licence.

    Args:
        cfg: The config `export`, composed.

    Returns:
        `largest` (difference of a probability), `same_grade`, `out`; with fp16 and int8 `kappa_price`.

    Raises:
        InputError: The network cannot be exported, or the file does not agree with the checkpoint.
    """
    validate(cfg, "export")
    _check(cfg)
    predictor = Predictor.from_checkpoint(cfg.ckpt, uri=cfg.tracking.uri, device=torch.device("cpu"))
    members = list(predictor.members)
    size = _image_size(predictor)
    knees = _knees_to_compare(cfg, members[0], size)
    grader = Grader(members).eval()
    file = Path(cfg.out) / f"{NAME}{formats.SUFFIX[cfg.format]}"
    part = file.with_name(f"part-{file.name}")
    try:
        made = _made(cfg, grader, members[0], size)
        _save(cfg, made, part, {})
        program = formats.program_of(part, grader)
        agreement = compare(members, program, torch.cat([knees.images, noise(size)]), f"{knees.words} and noise")
        if cfg.precision == "fp32":
            agreement.check()
        texts = _texts(cfg, predictor, agreement, None)
        price = None
        if cfg.precision != "fp32" and _has_data(cfg, members[0]):
            _save(cfg, made, part, texts)
            price = _price(cfg, members, part)
            texts = _texts(cfg, predictor, agreement, price)
        _save(cfg, made, file, texts)
    finally:
        for each in (part, part.with_suffix(".bin")):
            each.unlink(missing_ok=True)
    return _end(cfg, file, predictor, agreement, price, grader.has_cam, texts["card"])


def _check(cfg: DictConfig) -> None:
    if cfg.format == "torchscript" and cfg.precision != "fp32":
        raise InputError(f"precision={cfg.precision}: TorchScript is written in fp32; type format=onnx or openvino")


def _image_size(predictor: Predictor) -> int:
    first = predictor.checkpoints[0]
    for other in predictor.checkpoints:
        if other.program is not None:
            raise InputError(f"ckpt={other.path}: is an export already; give the checkpoint that it was made from")
        if other.preprocessing != first.preprocessing:
            raise InputError(
                f"ckpt={other.path}: prepares its images differently from {first.path}; one file takes one image, "
                "so export them separately"
            )
    return first.preprocessing.image_size


def _has_data(cfg: DictConfig, member: Member) -> bool:
    """Return whether there are knees to evaluate: those of `data`, or those of the checkpoint."""
    if cfg.get("data"):
        return True
    settings = member.checkpoint.record.data_settings
    return member.checkpoint.record.data.name == "phantom" or bool(settings.get("root") or settings.get("table"))


def _knees_to_compare(cfg: DictConfig, member: Member, size: int) -> _Knees:
    if _has_data(cfg, member):
        data = data_for(cfg, member.checkpoint).prepare(("val",))
        return _Knees(_some(data, "val", N_KNEES), f"{min(N_KNEES, len(data.tables['val']))} knees of {data.name}")
    rows = phantom_manifest(N_KNEES, 0, (0.2,) * 5)["path"].tolist()[:N_KNEES]
    knees = [OneKnee(image, "", "") for image in decode_phantoms(rows, 2 * size)]
    return _Knees(prepared(member.checkpoint, knees), f"{len(knees)} phantoms")


def _some(data: Any, split: str, n: int) -> Tensor:
    """Return images of n knees, spread evenly over a split."""
    dataset = data.datasets[split]
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int)).tolist()
    images: Tensor = dataset.__getitems__(rows)["image"]
    return images


def _made(cfg: DictConfig, grader: Grader, member: Member, size: int) -> Any:
    """Return the model in its format and precision, not yet written."""
    if cfg.format == "torchscript":
        return formats.torchscript(grader, size)
    model = formats.onnx_model(grader, size)
    if cfg.precision == "int8":
        if not _has_data(cfg, member):
            raise InputError("precision=int8: needs training knees to fit ranges on; type data=... data.root=FOLDER")
        model = quantised(
            model, _some(data_for(cfg, member.checkpoint).prepare(("train",)), "train", cfg.n_calibration)
        )
    if cfg.format == "openvino":
        return formats.from_onnx(model)
    return formats.halved(model) if cfg.precision == "fp16" else model


def _save(cfg: DictConfig, made: Any, file: Path, texts: dict[str, str]) -> None:
    if cfg.format == "torchscript":
        formats.save_torchscript(made, file, texts)
    elif cfg.format == "openvino":
        formats.save_openvino(made, file, texts, half=cfg.precision == "fp16")
    else:
        formats.save_onnx(made, file, texts)


def _texts(cfg: DictConfig, predictor: Predictor, agreement: Parity, price: dict[str, float] | None) -> dict[str, str]:
    """Return the metadata: record, card, checksum, licence, and how well the file agrees."""
    first = predictor.checkpoints[0]
    record, reference = first.record, first.reference
    if len(predictor.members) > 1:
        caveats = tuple(predictor.caveats)
        fitted = Fitted.left_out("an ensemble has none, as no knees are left to fit one on")
        record = replace(record, caveats=caveats, fitted=fitted, net=replace(record.net, link="softmax"))
        reference = {}
    facts = {"format": cfg.format, "precision": cfg.precision, "parity": agreement.to_plain(), "price": price}
    about = {
        "card": card(predictor, facts, agreement),
        "checksums": json.dumps([hashlib.sha256(each.path.read_bytes()).hexdigest() for each in predictor.checkpoints]),
        "members": str(len(predictor.members)),
        "export": json.dumps(facts),
        "licence": str(cfg.licence),
    }
    return exported.metadata(record, reference, first.epoch, about)


def _price(cfg: DictConfig, members: list[Member], file: Path) -> dict[str, float]:
    """Return the cost of the precision on the validation split: kappa and accuracy of the checkpoint and the file."""
    if len(members) > 1:
        raise InputError(f"precision={cfg.precision}: works for a single checkpoint only; export an ensemble in fp32")
    [member] = members
    data = data_for(cfg, member.checkpoint).prepare(("val",))
    found: dict[str, Any] = {}
    for name, each in (("checkpoint", member), ("export", Predictor.from_checkpoint(file).members[0])):
        metrics = split_metrics(each.grade_split(data, "val"), member.checkpoint.record)
        found |= {f"{key}_{name}": metrics[key] for key in ("quadratic_kappa", "quadratic_kappa_median", "accuracy")}
    both = [found[f"quadratic_kappa_{name}"] for name in ("checkpoint", "export")]
    return {**found, "kappa_price": float("nan") if None in both else both[0] - both[1]}


def _end(
    cfg: DictConfig, file: Path, predictor: Predictor, agreement: Parity, price: dict[str, float] | None,
    has_cam: bool, words: str,
) -> dict[str, Any]:  # fmt: skip
    (file.parent / "card.md").write_text(words)
    files = [file, *([file.with_suffix(".bin")] if cfg.format == "openvino" else [])]
    size = sum(each.stat().st_size for each in files) / 1e6
    print(agreement.words())
    if not has_cam:
        print("no heat map in the file: the network's head is not an average and one linear layer")
    if price is not None:
        kappas = ", ".join(f"{price[f'quadratic_kappa_{name}']:.3f}" for name in ("checkpoint", "export"))
        print(f"{cfg.precision} on validation: quadratic kappa {kappas} (checkpoint, export)")
    elif cfg.precision != "fp32":
        print(f"WARNING: cost of {cfg.precision} not measured, as there is no data; type data=... data.root=FOLDER")
    for caveat in predictor.caveats:
        print(f"WARNING: the model carries the caveat: {caveat}")
    print(DISCLAIMER)
    print(f"written to {file} ({size:.1f} MB), card.md beside it")
    numbers = {"largest": agreement.largest, "same_grade": agreement.same_grade}
    return {**numbers, **({"kappa_price": price["kappa_price"]} if price else {}), "out": str(file.parent)}
