import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.explain.examine import Options
from koa_lightning.explain.stages import Stages, key_of
from koa_lightning.models.net import NetSpec, build

OPTIONS = Options("cam", n_tested=12, n_road=2, batch_size=8, quiet=True)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build(NetSpec("test_efficientnet")).eval()


def test_what_another_network_left_is_not_taken(net, tmp_path):
    file = tmp_path / "explanations.part.json"
    file.write_text(json.dumps({"key": "of another", "done": {"faithfulness": None}, "seconds": {}}))
    seen = Preprocessing(64)
    key = key_of(net, ["a"], seen, OPTIONS)
    assert Stages(file, key, lambda line: None).done == {}
    assert key == key_of(net, ["a"], Preprocessing(64), OPTIONS) != key_of(net, ["b"], seen, OPTIONS)
    assert key != key_of(net, ["a"], replace(seen, top=0.25), OPTIONS)


def test_one_weight_makes_another_key(net):
    key = key_of(net, ["a"], Preprocessing(64), OPTIONS)
    weight = next(net.parameters()).data
    weight.view(-1)[0] += 1
    assert key_of(net, ["a"], Preprocessing(64), OPTIONS) != key
    weight.view(-1)[0] -= 1
    assert key_of(net, ["a"], Preprocessing(64), replace(OPTIONS, n_road=3)) != key


def test_a_test_that_is_done_is_not_run_again(tmp_path):
    file, lines = tmp_path / "part.json", []
    one = Stages(file, "key", lines.append)
    assert one("first", lambda: {"curve": np.array([1.0, 2.0])}) == {"curve": [1.0, 2.0]}
    assert one("first", lambda: pytest.fail("it was run again")) == {"curve": [1.0, 2.0]}
    assert lines == ["first: 0 s"]
    other = Stages(file, "key", lines.append)  # after an interruption
    assert lines[1] == f"resuming {file}: first done"
    assert other("first", lambda: pytest.fail("it was run again")) == {"curve": [1.0, 2.0]}
    assert other("second", lambda: 3) == 3
    assert list(other.total()) == ["first", "second", "total"]
    assert not list(tmp_path.iterdir())  # nothing is left, no half-written file either


def test_nothing_is_kept_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = Stages(None, "key", lambda line: None)
    assert stages("a", lambda: [1]) == [1]
    assert set(stages.total()) == {"a", "total"}
    assert not list(tmp_path.iterdir())
