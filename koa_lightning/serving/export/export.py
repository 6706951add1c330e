"""Export a checkpoint for other programs: `python -m koa_lightning.export format=onnx|openvino|torchscript`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
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
from koa_lightning.data.datamodule import KneeDataModule
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
_Data = Callable[[], KneeDataModule]


@dataclass(frozen=True)
class _Wanted:
    """What was asked for; see conf/export.yaml."""

    format: str
    precision: str
    n_calibration: int
    licence: str


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
    wanted = _Wanted(cfg.format, cfg.precision, cfg.n_calibration, str(cfg.licence))
    _check(wanted)
    predictor = Predictor.from_checkpoint(cfg.ckpt, uri=cfg.tracking.uri, device=torch.device("cpu"))
    members = list(predictor.members)
    size = _image_size(predictor)
    data = partial(data_for, cfg, members[0].checkpoint) if cfg.get("data") or _has_data(members[0]) else None
    knees = _knees_to_compare(data, members[0], size)
    grader = Grader(members).eval()
    file = Path(cfg.out) / f"{NAME}{formats.SUFFIX[wanted.format]}"
    part = file.with_name(f"part-{file.name}")
    try:
        made = _made(wanted, grader, data, size)
        _save(wanted, made, part, {})
        program = formats.program_of(part, grader)
        agreement = compare(members, program, torch.cat([knees.images, noise(size)]), f"{knees.words} and noise")
        if wanted.precision == "fp32":
            agreement.check()
        texts = _texts(wanted, predictor, agreement, None)
        price = None
        if wanted.precision != "fp32" and data is not None:
            _save(wanted, made, part, texts)
            price = _price(wanted, members, data, part)
            texts = _texts(wanted, predictor, agreement, price)
        _save(wanted, made, file, texts)
    finally:
        for each in (part, part.with_suffix(".bin")):
            each.unlink(missing_ok=True)
    return _end(wanted, file, predictor, agreement, price, grader.has_cam, texts["card"])


def _check(wanted: _Wanted) -> None:
    if wanted.format == "torchscript" and wanted.precision != "fp32":
        raise InputError(f"precision={wanted.precision}: TorchScript is written in fp32; type format=onnx or openvino")


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


def _has_data(member: Member) -> bool:
    """Return whether the checkpoint says where its knees are."""
    settings = member.checkpoint.record.data_settings
    return member.checkpoint.record.data.name == "phantom" or bool(settings.get("root") or settings.get("table"))


def _knees_to_compare(data: _Data | None, member: Member, size: int) -> _Knees:
    if data is not None:
        knees = data().prepare(("val",))
        return _Knees(_some(knees, "val", N_KNEES), f"{min(N_KNEES, len(knees.tables['val']))} knees of {knees.name}")
    rows = phantom_manifest(N_KNEES, 0, (0.2,) * 5)["path"].tolist()[:N_KNEES]
    phantoms = [OneKnee(image, "", "") for image in decode_phantoms(rows, 2 * size)]
    return _Knees(prepared(member.checkpoint, phantoms), f"{len(phantoms)} phantoms")


def _some(data: KneeDataModule, split: str, n: int) -> Tensor:
    """Return images of n knees, spread evenly over a split."""
    dataset = data.datasets[split]
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(n, len(dataset))).astype(int)).tolist()
    images: Tensor = dataset.__getitems__(rows)["image"]
    return images


def _made(wanted: _Wanted, grader: Grader, data: _Data | None, size: int) -> Any:
    """Return the model in its format and precision, not yet written."""
    if wanted.format == "torchscript":
        return formats.torchscript(grader, size)
    model = formats.onnx_model(grader, size)
    if wanted.precision == "int8":
        if data is None:
            raise InputError("precision=int8: needs training knees to fit ranges on; type data=... data.root=FOLDER")
        model = quantised(model, _some(data().prepare(("train",)), "train", wanted.n_calibration))
    if wanted.format == "openvino":
        return formats.from_onnx(model)
    return formats.halved(model) if wanted.precision == "fp16" else model


def _save(wanted: _Wanted, made: Any, file: Path, texts: dict[str, str]) -> None:
    if wanted.format == "torchscript":
        formats.save_torchscript(made, file, texts)
    elif wanted.format == "openvino":
        formats.save_openvino(made, file, texts, half=wanted.precision == "fp16")
    else:
        formats.save_onnx(made, file, texts)


def _texts(wanted: _Wanted, predictor: Predictor, agreement: Parity, price: dict[str, float] | None) -> dict[str, str]:
    """Return the metadata: record, card, checksum, licence, and how well the file agrees."""
    first = predictor.checkpoints[0]
    record, reference = first.record, first.reference
    if len(predictor.members) > 1:
        caveats = tuple(predictor.caveats)
        fitted = Fitted.left_out("an ensemble has none, as no knees are left to fit one on")
        record = replace(record, caveats=caveats, fitted=fitted, net=replace(record.net, link="softmax"))
        reference = {}
    facts = {"format": wanted.format, "precision": wanted.precision, "parity": agreement.to_plain(), "price": price}
    about = {
        "card": card(predictor, facts, agreement),
        "checksums": json.dumps([hashlib.sha256(each.path.read_bytes()).hexdigest() for each in predictor.checkpoints]),
        "members": str(len(predictor.members)),
        "export": json.dumps(facts),
        "licence": wanted.licence,
    }
    return exported.metadata(record, reference, first.epoch, about)


def _price(wanted: _Wanted, members: list[Member], data: _Data, file: Path) -> dict[str, float]:
    """Return the cost of the precision on the validation split: kappa and accuracy of the checkpoint and the file."""
    if len(members) > 1:
        words = "works for a single checkpoint only; export an ensemble in fp32"
        raise InputError(f"precision={wanted.precision}: {words}")
    [member] = members
    knees = data().prepare(("val",))
    found: dict[str, Any] = {}
    for name, each in (("checkpoint", member), ("export", Predictor.from_checkpoint(file).members[0])):
        metrics = split_metrics(each.grade_split(knees, "val"), member.checkpoint.record)
        found |= {f"{key}_{name}": metrics[key] for key in ("quadratic_kappa", "quadratic_kappa_median", "accuracy")}
    both = [found[f"quadratic_kappa_{name}"] for name in ("checkpoint", "export")]
    return {**found, "kappa_price": float("nan") if None in both else both[0] - both[1]}


def _end(
    wanted: _Wanted, file: Path, predictor: Predictor, agreement: Parity, price: dict[str, float] | None,
    has_cam: bool, words: str,
) -> dict[str, Any]:  # fmt: skip
    (file.parent / "card.md").write_text(words)
    files = [file, *([file.with_suffix(".bin")] if wanted.format == "openvino" else [])]
    size = sum(each.stat().st_size for each in files) / 1e6
    print(agreement.words())
    if not has_cam:
        print("no heat map in the file: the network's head is not an average and one linear layer")
    if price is not None:
        kappas = ", ".join(f"{price[f'quadratic_kappa_{name}']:.3f}" for name in ("checkpoint", "export"))
        print(f"{wanted.precision} on validation: quadratic kappa {kappas} (checkpoint, export)")
    elif wanted.precision != "fp32":
        print(f"WARNING: cost of {wanted.precision} not measured, as there is no data; type data=... data.root=FOLDER")
    for caveat in predictor.caveats:
        print(f"WARNING: the model carries the caveat: {caveat}")
    print(DISCLAIMER)
    print(f"written to {file} ({size:.1f} MB), card.md beside it")
    numbers = {"largest": agreement.largest, "same_grade": agreement.same_grade}
    return {**numbers, **({"kappa_price": price["kappa_price"]} if price else {}), "out": str(file.parent)}
