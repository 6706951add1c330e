"""The grader in the box: it grades phantoms as it did when it was made, and flags what is no knee."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.grader import box
from koa_lightning import load_model, pretrained
from koa_lightning.errors import InputError
from koa_lightning.metrics.predictions import PROBABILITIES

there = pytest.mark.skipif(not pretrained.WEIGHTS.is_file(), reason="this tree has no grader in the box")


@there
def test_it_is_what_its_facts_say():
    facts = json.loads(pretrained.FACTS.read_text())
    content = pretrained.file().read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts["sha256"] and len(content) == facts["bytes"] <= 9_000_000
    card = pretrained.CARD.read_text()
    for words in (facts["sha256"], facts["commit"][:12], facts["command"], "CC BY 4.0", "not a medical device"):
        assert words.lower() in card.lower()


@there
def test_it_loads_without_what_only_heat_maps_and_training_need(with_package):
    code = "import sys; from koa_lightning import load_model; load_model(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=with_package, check=True)
    slow = {"pytorch_grad_cam", "sklearn", "lightning", "mlflow", "kornia", "matplotlib", "torch._dynamo", "pydicom"}
    assert not (slow | {"scipy.optimize", "scipy.ndimage"}) & set(done.stdout.split())


@there
def test_phantoms_get_the_probabilities_of_the_reference():
    grader = load_model()
    table = grader.predict(box.phantoms())
    stored = np.array(json.loads(pretrained.FACTS.read_text())["phantoms"])
    assert np.abs(table[PROBABILITIES].to_numpy() - stored).max() < 1e-4
    assert len(set(table["predicted"])) > 1
    assert grader.caveats == []


@there
@pytest.mark.parametrize("kind", ["blank", "noise", "text", "inverted", "upside down"])
def test_what_is_no_knee_is_flagged(kind):
    rng = np.random.default_rng(0)
    page = np.full((224, 224), 242, np.uint8)
    page[20:200:12, 20:200] = rng.integers(0, 2, (15, 180)) * 220 + 20
    knee = box.phantoms()[0]
    pictures = {
        "blank": np.full((224, 224), 90, np.uint8),
        "noise": rng.integers(0, 256, (224, 224), np.uint8),
        "text": page,
        "inverted": 255 - knee,
        "upside down": np.ascontiguousarray(knee[::-1]),
    }
    [row] = load_model().predict([pictures[kind]]).to_dict("records")
    assert row["foreign"] == "yes" and row["refer"]


def test_a_box_that_is_missing_or_damaged_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "grader.safetensors")
    monkeypatch.setattr(pretrained, "FACTS", tmp_path / "grader.json")
    with pytest.raises(InputError, match="no grader in it"):
        load_model()
    pretrained.WEIGHTS.write_bytes(b"x")
    pretrained.FACTS.write_text('{"sha256": "abc"}')
    with pytest.raises(InputError, match="is damaged"):
        load_model("pretrained")
    pretrained.FACTS.write_text("[" * 100_000)
    with pytest.raises(InputError, match="no grader in it"):
        load_model("pretrained")
