"""Files of each format."""

import json

import pytest
import torch

from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import RECORD
from koa_lightning.errors import InputError

pytest.importorskip("onnxruntime")


def test_torchscript_is_written_and_not_run_from_elsewhere(export_of, calibrated_checkpoint, tmp_path):
    export_of(calibrated_checkpoint, tmp_path / "out", "format=torchscript")
    file = tmp_path / "out" / "grader.ts"
    texts = {RECORD: "", "card": "", "note": ""}
    module = torch.jit.load(str(file), _extra_files=texts)
    assert len(module(torch.zeros(3, 1, 64, 64, dtype=torch.uint8))[0]) == 3
    assert json.loads(texts[RECORD])["grade_names"] and b"medical" in texts["note"]
    with pytest.raises(InputError, match="TorchScript file is a program"):
        read(file)
