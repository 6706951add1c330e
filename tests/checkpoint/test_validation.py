"""Fields of a checkpoint that are of a wrong kind, or that would name code: one line that names the field."""

import copy

import pytest
import torch

from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import RECORD
from koa_lightning.errors import InputError
from koa_lightning.losses.build import recorded_loss
from koa_lightning.models.net import NetSpec, build

SPEC = NetSpec("test_efficientnet")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def content(tiny_record):
    torch.manual_seed(0)
    state = {f"net.{key}": value for key, value in build(SPEC).state_dict().items()}
    record = {
        **tiny_record(SPEC),
        "loss": "koa_lightning.losses.CrossEntropy",
        "made_of": {"optimizer": "AdamW"},
        "tracking": {"uri": "sqlite:////x/mlflow.db", "run_id": "0" * 32},
    }
    record["config"]["loss"] = {"label_smoothing": 0.1, "class_weights": "none"}
    return {"state_dict": state, RECORD: record, "epoch": 3, "global_step": 40}


@pytest.fixture
def save(tmp_path, content):
    """Write the checkpoint with one entry changed; returns the file."""

    def write(value, *keys):
        changed = copy.deepcopy(content)
        node = changed
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
        torch.save(changed, tmp_path / "best.ckpt")
        return tmp_path / "best.ckpt"

    return write


def refused(file, words):
    with pytest.raises(InputError) as error:
        read(file)
    line = str(error.value)
    assert words in line
    assert str(file) in line
    assert "\n" not in line and len(line) < 500


def deep(n=60):
    node = []
    for _ in range(n):
        node = [node]
    return node


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (["a"], "grade_names"), ([], "grade_names"), ([1, 2, 3, 4, 5], "grade_names"), ([""] * 5, "grade_names"),
        (["a\nb"] * 5, "grade_names"), (["a"] * 10**4, "grade_names"), ([None] * 5, "grade_names"),
        ("x", "data.counts"), ({"train": "x"}, "data.counts"), ({"train": [1]}, "data.counts"),
        ({"train": [1, 2, 3, 4, -5]}, "data.counts"), ({"train": [1.0] * 5}, "data.counts"),
        ({"train": [True] * 5}, "data.counts"), ({"train": [10**30] * 5}, "data.counts"), ({}, "data.counts"),
        ({"nonsense": [1] * 5}, "data.counts"), (5, "data.split"), ("a\x1b[2J", "data.name"),
        ("a\nb", "data.fingerprint"),
        ([5], "marks"), (["a\nb"], "marks"), ("a\nb", "weights"), (["x"], "weights_reason"), ("x\ny", "version"),
        (5, "loss"), (["x"], "made_of"), ({"optimizer": 5}, "made_of"),
        (10**9, "preprocessing.image_size"), (-1, "preprocessing.image_size"), (True, "preprocessing.image_size"),
        (NAN, "preprocessing.top"), (0.95, "preprocessing.top"), ("???", "preprocessing.fit"),
        ("${oc.env:HOME}", "preprocessing.fit"), ("X", "preprocessing.canonical_side"),
        (1, "preprocessing.fix_polarity"),
        (10**9, "net.image_size"), (NAN, "net.mean"), (INF, "net.mean"), (0.0, "net.std"), (-1.0, "net.std"),
        (1.0, "net.drop_rate"), (-0.1, "net.drop_path_rate"), ("${oc.env:HOME}", "net.link"), ("a\nb", "net.name"),
        ("auto", "plan.precision"), (5, "plan.reason"), ("a\nb", "plan.reason"),
        (0, "config.data.batch_size"), ("4", "config.data.batch_size"), (10**9, "config.data.eval_batch_size"),
        (["x"], "config.data.eval_batch_size"), (5, "config.data.name"), (5, "config.data.pattern"),
        ("${oc.env:HOME}", "config.data.pattern"), ({"a": 1}, "config.name"),
        (5, "tracking.uri"), ("${oc.env:HOME}", "tracking.uri"), ("../../x", "tracking.run_id"), (5, "tracking.run_id"),
        (NAN, "config.optimizer.lr"), (-INF, "config.x"),
    ],
)  # fmt: skip
def test_a_field_of_the_record_that_is_wrong_is_named(value, path, save):
    refused(save(value, RECORD, *path.split(".")), path)


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "pathlib.Path.touch", "_args_": ["PROOF"]},
        [{"_target_": "pathlib.Path.touch", "_args_": ["PROOF"]}],
        {"a": [{"_target_": "pathlib.Path.touch", "_args_": ["PROOF"]}]},
        "${oc.create:{_target_: pathlib.Path.touch, _args_: [PROOF]}}",
        "${oc.env:HOME}",
        "???",
        {"_partial_": True},
    ],
)
@pytest.mark.parametrize(
    "name", ["label_smoothing", "class_weights", "gamma", "penalties", "other", "_args_", "_convert_"]
)
def test_the_settings_of_the_loss_run_no_code(value, name, save, tmp_path):
    def filled(node):
        if isinstance(node, dict):
            return {key: filled(each) for key, each in node.items()}
        if isinstance(node, list):
            return [filled(each) for each in node]
        return node.replace("PROOF", str(tmp_path / "proof")) if isinstance(node, str) else node

    refused(save(filled(value), RECORD, "config", "loss", name), f"config.loss.{name}")
    assert not (tmp_path / "proof").exists()


def test_settings_of_the_loss_that_are_no_settings(save):
    for value in ("x", ["a"], None, 5):
        refused(save(value, RECORD, "config", "loss"), "config.loss")
    refused(save({}, RECORD, "config", "loss"), "config.loss")


def test_eval_runs_no_code_of_the_loss(save, tmp_path, launch, alone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = save({"_target_": "pathlib.Path.touch", "_args_": ["proof"]}, RECORD, "config", "loss", "label_smoothing")
    ended = launch("eval", f"ckpt={file}", "tracking=none", "explain=none")
    assert (ended.code, len(ended.err)) == (2, 1)
    assert "config.loss.label_smoothing=" in ended.err[0]
    assert not (tmp_path / "proof").exists()


def test_the_loss_of_a_checkpoint_that_is_whole(save):
    record = read(save(0.2, RECORD, "config", "loss", "label_smoothing")).record
    found = recorded_loss(record.loss, record.config["loss"], record.data.counts["train"])
    assert found.label_smoothing == 0.2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(3, dtype=torch.int8), "in its state_dict, net.x is of type int8"),
        (torch.ones(3, dtype=torch.complex64), "in its state_dict, net.x is of type complex64"),
        (torch.ones(1).expand(10**12), "in its state_dict, net.x is of shape (1000000000000,), more numbers than"),
        (torch.eye(3).to_sparse(), "in its state_dict, net.x is not a plain tensor"),
        (torch.empty(3, device="meta"), "in its state_dict, net.x is not a plain tensor"),
    ],
)
def test_tensors_that_are_no_plain_weights(value, words, save):
    refused(save(value, "state_dict", "net.x"), words)


def test_weights_of_another_type_than_the_networks(save, content):
    key = "net.net.conv_stem.weight"
    with pytest.raises(InputError, match="its weights do not fit its network"):
        read(save(content["state_dict"][key].double(), "state_dict", key)).network()
    refused(save(content["state_dict"][key].to(torch.int8), "state_dict", key), f"{key} is of type int8")


@pytest.mark.parametrize(("value", "key"), [(-1, "epoch"), (10**30, "epoch"), (True, "epoch"), (-1, "global_step")])
def test_numbers_of_epochs_and_steps(value, key, save):
    refused(save(value, key), "epoch" if value is True else f"{key}={value}: ")


@pytest.mark.parametrize("value", [deep(), {"a": deep()}])
def test_a_record_that_is_too_deep(value, save):
    refused(save(value, RECORD, "config", "x"), "is nested too deeply")


@pytest.mark.parametrize("key", ["calibration", "conformal", "abstention", "inputs", "thresholds"])
@pytest.mark.parametrize("entry", [{"left_out": "x", "limits": "x", "curve": 1, "method": "y"}, {"left_out": 5}, {}, 5])
def test_what_was_fitted_is_omitted_or_whole(key, entry, save):
    refused(save(entry, RECORD, key), key)


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_patients", [1]), ("n_patients", 10**12), ("seed", "x"), ("n_patients", True), ("grade_shares", [[1]])],
)
def test_settings_of_the_data_of_another_kind(key, value, save):
    found = read(save(value, RECORD, "config", "data", "source", key))
    with pytest.raises(InputError, match=r"best\.ckpt: (its data settings|data\.source\.)"):
        found.data_config()
