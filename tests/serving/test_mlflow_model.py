import base64
import io
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from PIL import Image

from koa_lightning.checkpoint import reading
from koa_lightning.data.images import decode
from koa_lightning.models.inference import grade_logits
from koa_lightning.models.outputs import probabilities
from koa_lightning.serving import mlflow_model


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def file(write_checkpoint, tmp_path_factory):
    preprocessing = {"image_size": 32, "fit": "letterbox", "canonical_side": "R"}
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", preprocessing=preprocessing)


@pytest.fixture(scope="module")
def model(file):
    return mlflow_model._load_pyfunc(str(file))


@pytest.fixture(scope="module")
def knees():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + i, 50), dtype=np.uint8) for i in range(3)]


def test_grades_are_those_of_the_network(model, file, knees):
    rows = model.predict(pd.DataFrame({"image": [png(knee) for knee in knees]}))
    read = reading.read(file)
    images = torch.from_numpy(np.stack([read.preprocessing.apply(knee) for knee in knees])).unsqueeze(1)
    with torch.no_grad():
        expected = probabilities(grade_logits(read.network(), images), "softmax").numpy()
    shares = rows[["p0", "p1", "p2", "p3", "p4"]].to_numpy()
    np.testing.assert_allclose(shares, expected, atol=1e-7)
    assert rows["grade"].tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(rows["expected_grade"], expected @ np.arange(5), atol=1e-5)
    assert rows["name"].tolist() == [read.record.grade_names[grade] for grade in rows["grade"]]
    assert set(rows["note"]) == {"research use only, not a medical device, phantom data"}


def test_probabilities_are_those_that_the_checkpoint_promises(file, knees, tmp_path):
    import torch

    content = torch.load(file, weights_only=True)
    content["koa_lightning"]["calibration"] = {"method": "temperature", "parameters": {"temperature": 3.0}}
    content["koa_lightning"]["conformal"] = {"limits": [0.9] * 50}
    torch.save(content, tmp_path / "calibrated.ckpt")
    images = pd.DataFrame({"image": [png(knee) for knee in knees]})
    raw, rows = (mlflow_model._load_pyfunc(str(path)).predict(images) for path in (file, tmp_path / "calibrated.ckpt"))
    columns = ["p0", "p1", "p2", "p3", "p4"]
    wanted = raw[columns].to_numpy() ** (1 / 3)
    np.testing.assert_allclose(rows[columns], wanted / wanted.sum(1, keepdims=True), atol=1e-5)
    assert (raw["set"] == "").all() and (rows["set"] != "").all()
    assert (rows["foreign"] == "").all()


def test_pixels_are_worth_what_a_file_is(model, knees):
    files = model.predict(pd.DataFrame({"image": [png(knee) for knee in knees]}))
    arrays = model.predict(pd.DataFrame({"pixels": [knees[0], knees[1].tolist(), list(knees[2])]}))
    mixed = model.predict(pd.DataFrame({"image": [png(knees[0]), None, None], "pixels": [None, *knees[1:]]}))
    pd.testing.assert_frame_equal(files, arrays)
    pd.testing.assert_frame_equal(files, mixed)


def test_a_knee_of_the_other_side_is_mirrored(model, knees):
    left = model.predict(pd.DataFrame({"image": [png(knees[0])], "side": ["L"]}))
    mirrored = model.predict(pd.DataFrame({"image": [png(np.ascontiguousarray(knees[0][:, ::-1]))], "side": ["R"]}))
    pd.testing.assert_frame_equal(left, mirrored)


def test_more_knees_than_fit_in_a_batch(model, knees, monkeypatch):
    rows = pd.DataFrame({"image": [png(knee) for knee in knees]})
    at_once = model.predict(rows)
    monkeypatch.setattr(mlflow_model, "BATCH", 2)
    in_parts = model.predict(rows)
    np.testing.assert_allclose(in_parts["p0"], at_once["p0"], atol=1e-6)
    assert model.predict(rows[:0]).columns.tolist() == at_once.columns.tolist()


def test_requests_that_come_at_once_are_graded_one_by_one(model, knees, monkeypatch):
    grade, both, met = mlflow_model.Predictor.grade, threading.Barrier(2), []

    def watched(*arguments):
        with suppress(threading.BrokenBarrierError):
            met.append(both.wait(0.3))  # two threads in here at once: a hook of one sees the knees of the other
        return grade(*arguments)

    rows = [pd.DataFrame({"image": [png(knee)]}) for knee in knees[:2]]
    alone = [model.predict(row) for row in rows]
    monkeypatch.setattr(mlflow_model.Predictor, "grade", watched)
    with ThreadPoolExecutor(2) as pool:
        for one, found in zip(alone, pool.map(model.predict, rows), strict=True):
            pd.testing.assert_frame_equal(one, found)
    assert met == []


def test_a_model_can_be_copied(model, knees):
    rows = pd.DataFrame({"image": [png(knees[0])]})
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict(rows), model.predict(rows))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"image": b"no image"}, "image 0: not a readable PNG"),
        ({"image": b""}, "image 0: the file is empty"),
        ({"picture": b"x"}, "there is neither a column image .* nor a column pixels"),
        ({"image": None}, "image 0: give either the column image"),
        ({"image": b"x", "pixels": [[1] * 9] * 9}, "image 0: give either the column image"),
        ({"pixels": [[1] * 9] * 8 + [[1]]}, "image 0: pixels must be rows of equal length"),
        ({"pixels": [[256] * 9] * 9}, "image 0: pixels must be .* from 0 to 255"),
        ({"pixels": [[0.5] * 9] * 9}, "image 0: pixels must be"),
        ({"pixels": []}, "image 0: pixels must be"),
        ({"pixels": [[]]}, "image 0: pixels must be"),
        ({"pixels": [np.zeros(0, dtype=np.int64)]}, "image 0: pixels must be"),
        ({"pixels": [[1] * 7] * 9}, "image 0: 7 x 9 pixels, a side is under 8"),
        ({"image": b"x", "side": "X"}, "image 0: side=X must be L or R"),
    ],
)
def test_a_client_is_told_what_is_wrong(model, row, words):
    with pytest.raises(MlflowException, match=words) as error:
        model.predict(pd.DataFrame([row]))
    assert error.value.get_http_status_code() == 400


@pytest.mark.filterwarnings("ignore")
def test_a_stored_model_checks_what_it_takes_and_loads_without_pickle(file, tmp_path, knees, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"),
        loader_module=mlflow_model.__name__,
        data_path=str(file),
        signature=mlflow_model.signature(),
        input_example=mlflow_model.example(),
        pip_requirements=[],
    )
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix in (".py", ".pkl")]
    stored = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    files = stored.predict(pd.DataFrame({"image": [png(knees[0])]}))
    pd.testing.assert_frame_equal(files, stored.predict(pd.DataFrame({"pixels": [knees[0].tolist()]})))
    with pytest.raises(MlflowException, match="schema"):
        stored.predict(pd.DataFrame({"image": [3.5]}))
    kept = Model.load(str(tmp_path / "model"))
    example = json.loads((tmp_path / "model" / kept.saved_input_example_info["artifact_path"]).read_text())
    assert decode(base64.b64decode(example["data"][0][0]), "example").shape == (64, 64)
    assert [column.name for column in kept.signature.outputs.inputs] == files.columns.tolist()
