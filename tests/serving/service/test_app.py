import base64
import io
import json
import tempfile
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from koa_lightning import DISCLAIMER
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.metrics.predictions import PROBABILITIES
from koa_lightning.reporting.heat_maps import overlay
from tests.fixtures.services import InlineWorkers

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')


def send(client, *files, **asked):
    return client.post("/v1/grade", files=[("files", file) for file in files], params=asked)


def image_of(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.fixture
def every_format(tmp_path, radiographs, write_dicom):
    """One radiograph a format; returns the files."""
    gray, folder = radiographs, tmp_path / "in"
    folder.mkdir()
    Image.fromarray(gray[0]).save(folder / "a-L.png")
    Image.fromarray(gray[1]).save(folder / "b-R.jpg")
    Image.fromarray(gray[2]).save(folder / "c.tif")
    tifffile.imwrite(folder / "d.tiff", gray[3].astype(np.uint16) * 200 + 7)
    Image.fromarray(gray[4]).convert("RGB").save(folder / "e.png")
    Image.fromarray(gray[0]).save(folder / "f.webp", lossless=True)
    Image.fromarray(gray[1]).save(folder / "g.bmp")
    write_dicom(folder / "h.dcm", gray[5].astype(np.uint16) * 16, bits=12, PatientID="Doe^Jane", ImageLaterality="L")
    write_dicom(folder / "i", gray[2], PatientID="Doe^Jane", ImageLaterality="R")
    return sorted(folder.iterdir())


def test_answers_are_those_of_predict(client, every_format, served_checkpoint, launch, place, monkeypatch):
    monkeypatch.setenv("KOA_KEY", "sixteen letters and more")
    folder = every_format[0].parent
    done = launch("predict", f"ckpt={served_checkpoint}", f"input={folder}", "out=out", "overlays=false")
    assert done.code == 0, done.err
    table = pd.read_parquet(place / "out/predictions.parquet").set_index("path")
    service = client(limits={"n_files": 9})
    knees = send(service, *[(file.name, file.read_bytes()) for file in every_format]).json()["knees"]
    assert [knee["file"] for knee in knees] == [file.name for file in every_format]
    for knee, file in zip(knees, every_format, strict=True):
        row = table.loc[str(file)]
        assert knee["probabilities"] == [float(row[name]) for name in PROBABILITIES]  # to the last bit
        assert knee["expected_grade"] == float(row["expected_grade"])
        assert knee["median_grade"] == row["median_grade"]
        assert (knee["grade"], knee["name"], knee["side"]) == (row["predicted"], row["name"], row["side"])
        assert knee["prediction_set"] == {
            "low": row["set_low"], "high": row["set_high"], "words": row["set"]
        }  # fmt: skip
        assert knee["refer_why"] == row["refer"]
    assert [send(service, (file.name, file.read_bytes())).json()["knees"][0] for file in every_format] == knees


def test_both_knees_of_a_patient_are_known_by_name_or_header(client, every_format):
    service = client(limits={"n_files": 9})
    knees = {k["file"]: k for k in send(service, *[(f.name, f.read_bytes()) for f in every_format]).json()["knees"]}
    assert (knees["a-L.png"]["patient"], knees["a-L.png"]["side"]) == ("a", "L")
    assert knees["h.dcm"]["patient"] == knees["i"]["patient"] != ""
    assert (knees["h.dcm"]["side"], knees["i"]["side"]) == ("L", "R")
    assert "Doe" not in json.dumps(knees)


def test_numbers_that_follow_from_the_probabilities(client, radiographs, encoded):
    [knee] = send(client(), ("a.png", encoded(radiographs[0]))).json()["knees"]
    below = np.cumsum(knee["probabilities"])
    assert knee["median_grade"] == int(np.argmax(below >= 0.5))
    assert knee["grade"] == int(np.argmax(knee["probabilities"]))
    assert knee["out_of_distribution"] is None and knee["refer"] is False


def test_a_heat_map_lies_on_the_picture_as_the_overlay_of_predict(client, radiographs, encoded, served_checkpoint):
    data = encoded(radiographs[0])
    [knee] = send(client(), ("a.png", data), heatmap=True, picture=True, method="eigencam").json()["knees"]
    picture, layer = np.asarray(image_of(knee["picture"])), image_of(knee["heatmap"])
    np.testing.assert_array_equal(picture, radiographs[0])
    heat = load_model(served_checkpoint).explain(radiographs[0], method="eigencam")
    laid = Image.alpha_composite(Image.fromarray(picture).convert("RGBA"), layer).convert("RGB")
    difference = np.abs(np.asarray(laid).astype(int) - overlay(radiographs[0], heat))
    assert difference.max() <= 1 and heat.max() > 0.9
    plain = send(client(), ("a.png", data)).json()["knees"][0]
    assert plain["heatmap"] is None and plain["picture"] is None


def test_an_ensemble(client, make_api, served_checkpoint, write_checkpoint, tmp_path, radiographs, encoded):
    files = [served_checkpoint, write_checkpoint(tmp_path / "other.ckpt", seed=1)]
    service = client(workers=InlineWorkers(make_api(*files)))
    [knee] = send(service, ("a.png", encoded(radiographs[0])), heatmap=True).json()["knees"]
    row = load_model(files).predict(radiographs[0]).iloc[0]
    assert knee["probabilities"] == [float(row[name]) for name in PROBABILITIES]
    assert knee["prediction_set"] is None and knee["out_of_distribution"] is None and knee["heatmap"]


def test_an_exported_file_is_served_as_its_checkpoint(client, make_api, calibrated_checkpoint, as_onnx, encoded):
    data = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    services = [client(workers=InlineWorkers(make_api(f))) for f in (calibrated_checkpoint, as_onnx[0] / "grader.onnx")]
    asked = {"heatmap": True, "method": "gradcam"}
    first, second = (send(service, ("a.png", data), **asked).json()["knees"][0] for service in services)
    assert np.abs(np.subtract(first["probabilities"], second["probabilities"])).max() < 1e-4
    assert (first["grade"], first["median_grade"]) == (second["grade"], second["median_grade"])
    maps = [np.asarray(image_of(knee["heatmap"]).convert("RGB"), np.float64).ravel() for knee in (first, second)]
    assert np.corrcoef(*maps)[0, 1] > 0.99


def test_one_bad_file_among_good_ones_fails_alone(client, radiographs, encoded):
    good = encoded(radiographs[0])
    answer = send(client(), ("a.png", good), ("b.png", good[:99]), ("c.png", good))
    assert answer.status_code == 200
    first, bad, last = answer.json()["knees"]
    assert first["probabilities"] == last["probabilities"]
    assert bad["error"]["code"] == "unreadable" and bad["grade"] is None
    assert answer.json()["note"] == DISCLAIMER and answer.json()["caveats"] == ["phantom data"]


@pytest.mark.parametrize(
    ("name", "data", "status", "code"),
    [
        ("empty.png", b"", 422, "unreadable"),
        ("words.txt", b"no such thing", 422, "unreadable"),
        ("half.png", b"\x89PNG\r\n\x1a\n\0\0", 422, "unreadable"),
        ("a.dcm", b"\0" * 128 + b"DICM" + b"\0" * 40, 422, "unreadable"),
    ],
)
def test_a_bad_file_is_one_json_error(client, name, data, status, code):
    answer = send(client(), (name, data))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code and error["message"].startswith(name) and "\n" not in error["message"]


def test_an_image_of_too_many_pixels_is_refused_by_its_header(client, encoded):
    wide = encoded(np.zeros((1200, 1000), np.uint8))
    error = send(client(), ("wide.png", wide)).json()["error"]
    assert error == {
        "code": "too_many_pixels",
        "message": "wide.png: 1000 x 1200 pixels are more than 1000000; crop the joint",
    }
    bomb = bytearray(encoded(np.zeros((9, 9), np.uint8)))
    bomb[16:24] = (60_000).to_bytes(4) * 2  # 3.6 gigapixels, by the header
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4)
    assert send(client(), ("bomb.png", bytes(bomb))).json()["error"]["code"] == "too_many_pixels"


def test_a_film_of_both_knees_is_refused_until_it_is_said_to_be_one(client, encoded, radiographs):
    film = encoded(np.hstack([radiographs[0], np.zeros((160, 20), np.uint8), radiographs[1][:, ::-1]]))
    answer = send(client(), ("film.png", film))
    if answer.status_code == 422:
        assert answer.json()["error"]["code"] == "both_knees"
    assert send(client(), ("film.png", film), films="never").status_code == 200


def test_what_is_asked_wrongly_is_one_json_error(client, radiographs, encoded):
    service, data = client(), encoded(radiographs[0])
    for answer, status, code in (
        (service.post("/v1/grade"), 400, "no_file"),
        (service.post("/v1/grade", data={"files": "x"}), 400, "bad_request"),
        (service.post("/v1/grade", content=b"{}", headers={"content-type": "application/json"}), 400, "no_file"),
        (send(service, ("a.png", data), side="X"), 400, "bad_request"),
        (send(service, ("a.png", data), heatmap="true", method="scorecam"), 400, "bad_request"),
        (send(service, *[("a.png", data)] * 5), 413, "too_many_files"),
        (send(service, ("a.png", data + b"0" * (1 << 20))), 413, "too_large"),
        (service.get("/v1/grade"), 405, "method_not_allowed"),
        (service.get("/nowhere"), 404, "not_found"),
        (service.get("/page/../app.py"), 404, "not_found"),
        (service.get("/page/__init__.py"), 404, "not_found"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_a_body_without_a_length_is_counted(client):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield b"0" * 65536

    answer = client().post("/v1/grade", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_request_that_takes_too_long_ends(client, radiographs, encoded, grader_api):
    import asyncio

    class Slow(InlineWorkers):
        async def grade(self, jobs):
            await asyncio.sleep(30)

    answer = send(client(workers=Slow(grader_api), limits={"seconds": 0.2}), ("a.png", encoded(radiographs[0])))
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_fault_of_the_service_tells_nothing_of_the_file(client, radiographs, encoded, grader_api, caplog):
    class Broken(InlineWorkers):
        async def grade(self, jobs):
            raise RuntimeError("Doe^Jane")

    answer = send(client(workers=Broken(grader_api)), ("a.png", encoded(radiographs[0])))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "Doe" not in answer.text + caplog.text and "RuntimeError at " in caplog.text


def test_nothing_is_written_while_a_request_is_answered(client, radiographs, encoded, monkeypatch, tmp_path):
    service = client(limits={"n_bytes": 8 << 20})

    def refuse(*args, **kwargs):
        raise AssertionError("an upload goes to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    noise = np.random.default_rng(0).integers(0, 256, (999, 999), dtype=np.uint8)
    large = encoded(np.dstack([noise] * 3).astype(np.uint8), "BMP")  # 3 MB: beyond what Starlette keeps in memory
    assert send(service, ("large.bmp", large)).status_code == 200


def test_what_is_kept_is_the_upload_and_its_answer(client, radiographs, encoded, tmp_path):
    data = encoded(radiographs[0])
    answer = send(client(kept=tmp_path), ("a.png", data), heatmap=True).json()["knees"][0]
    image, answered = sorted(tmp_path.iterdir(), key=lambda file: file.suffix)
    assert image.read_bytes() == data and image.stat().st_mode & 0o077 == 0
    assert json.loads(answered.read_text()) == {k: v for k, v in answer.items() if k not in ("heatmap", "picture")}


def test_metrics_count_what_was_graded(client, radiographs, encoded):
    service = client()
    send(service, ("a.png", encoded(radiographs[0])), ("b.png", b"x"), ("c.png", encoded(radiographs[1])))
    service.get("/nowhere/a-patient")
    text = service.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert sum(float(lines[f'koa_grades_total{{grade="{grade}"}}']) for grade in range(5)) == 2
    assert lines['koa_errors_total{code="unreadable"}'] == "1.0"
    assert lines["koa_batch_size_count"] == "1.0" and lines["koa_batch_size_sum"] == "3.0"
    assert lines['koa_requests_total{path="/v1/grade",status="200"}'] == "1.0"
    assert lines["koa_workers_ready"] == "1.0" and "a-patient" not in text


def test_health_and_readiness(client, grader_api):
    class Starting(InlineWorkers):
        n_ready = 0

    assert client().get("/ready").json() == {"status": "ready"}
    starting = client(workers=Starting(grader_api))
    assert starting.get("/health").status_code == 200
    assert (starting.get("/ready").status_code, starting.get("/ready").json()["error"]["code"]) == (503, "busy")


def test_the_model_is_told(client, about):
    assert client().get("/v1/model").json() == about.model_dump()


def test_no_request_that_fits_the_openapi_makes_the_service_fail(live):
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_url(f"{live}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {
        "/v1/grade",
        "/v1/model",
        "/v1/study/{name}/readings",
        "/metrics",
    }
    statuses = set()
    for operation in operations:

        @settings(max_examples=settings.default.max_examples // 4, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def fails_never(case):
            answer = case.call(timeout=30)
            statuses.add(answer.status_code)
            assert answer.status_code < 500, answer.text
            assert answer.headers["content-security-policy"][0].startswith("default-src 'none'")

        fails_never()
    assert {200, 422} <= statuses  # it was answered, and files that are no images were looked at
