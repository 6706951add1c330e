import json

import pandas as pd
import pytest

from koa_lightning.metrics import predictions
from koa_lightning.metrics.intervals import with_intervals

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')

from koa_lightning.serving.service.study import COLUMNS, METRICS, Studies


@pytest.fixture
def service(client, tmp_path):
    return client(studies=Studies(tmp_path, "tiny"))


@pytest.fixture
def files(radiographs, encoded):
    return [("files", (f"p{n}-{'LR'[n % 2]}.png", encoded(pixels))) for n, pixels in enumerate(radiographs)][:4]


def test_the_answer_stays_back_until_the_reading_is_in_the_file(service, files, tmp_path):
    unread = service.post("/v1/study/anna/knees", files=files).json()["knees"]
    answers = service.post("/v1/grade", files=files).json()["knees"]
    shown = json.dumps([{**knee, "picture": ""} for knee in unread])
    assert not any(str(answer["probabilities"][0]) in shown for answer in answers)
    assert all(knee["knee"] is None and knee["picture"] and knee["id"] for knee in unread)
    assert not (tmp_path / "anna.csv").exists()
    for grade, (knee, answer) in enumerate(zip(unread, answers, strict=True)):
        said = service.post("/v1/study/anna/readings", json={"id": knee["id"], "grade": grade}).json()["knee"]
        assert said == answer
        assert len(pd.read_csv(tmp_path / "anna.csv")) == grade + 1
    table = pd.read_csv(tmp_path / "anna.csv")
    assert list(table.columns) == COLUMNS and table["grade"].tolist() == [0, 1, 2, 3]
    assert table["predicted"].tolist() == [answer["grade"] for answer in answers]
    assert table[predictions.PROBABILITIES].to_numpy().tolist() == [answer["probabilities"] for answer in answers]
    assert service.get("/v1/study/anna").json()["n_readings"] == 4


def test_agreement_is_that_of_the_bench(service, files, tmp_path):
    for grade, knee in enumerate(service.post("/v1/study/anna/knees", files=files).json()["knees"]):
        service.post("/v1/study/anna/readings", json={"id": knee["id"], "grade": grade})
    found = service.get("/v1/study/anna/agreement").json()
    table = pd.read_csv(tmp_path / "anna.csv")
    wanted = with_intervals(table, only=METRICS)
    for metric in found["metrics"]:
        each = wanted[metric["name"]]
        assert (metric["value"], metric["low"], metric["high"], metric["note"]) == (
            each.value, each.low, each.high, each.note
        )  # fmt: skip
    assert [metric["name"] for metric in found["metrics"]] == list(METRICS)
    assert found["confusion"] == predictions.confusion(table).tolist()
    assert json.loads((tmp_path / "anna.agreement.json").read_text()) == found


def test_readings_can_be_evaluated_as_any_table_of_predictions(service, files, tmp_path, launch, place):
    for knee in service.post("/v1/study/anna/knees", files=files).json()["knees"]:
        service.post("/v1/study/anna/readings", json={"id": knee["id"], "grade": 1})
    done = launch(
        "eval", f"table={tmp_path / 'anna.csv'}", "tracking=none", "report=false", "out=out", "n_resamples=100"
    )
    assert done.code == 0, done.err


def test_a_study_goes_on_after_a_restart_and_a_knee_is_read_once(client, files, tmp_path):
    first = client(studies=Studies(tmp_path, "tiny"))
    [knee] = first.post("/v1/study/anna/knees", files=files[:1]).json()["knees"]
    reading = {"id": knee["id"], "grade": 3}
    assert first.post("/v1/study/anna/readings", json=reading).status_code == 200
    assert first.post("/v1/study/anna/readings", json=reading).json()["error"]["code"] == "not_found"
    again = client(studies=Studies(tmp_path, "tiny")).post("/v1/study/anna/knees", files=files[:2]).json()["knees"]
    assert (again[0]["reading"], again[0]["id"]) == (3, "") and again[0]["knee"]["grade"] is not None
    assert again[1]["reading"] is None and again[1]["id"] and again[1]["knee"] is None


def test_readers_do_not_see_each_others_knees(service, files):
    [knee] = service.post("/v1/study/anna/knees", files=files[:1]).json()["knees"]
    answer = service.post("/v1/study/bert/readings", json={"id": knee["id"], "grade": 3})
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 65, "a b", "ä"])
def test_a_name_that_is_no_file_of_the_folder(service, name, tmp_path):
    assert service.get(f"/v1/study/{name}").status_code in (400, 404)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("grade", [-1, 5, 1.5, "x", None])
def test_a_reading_that_is_no_grade(service, files, grade, tmp_path):
    [knee] = service.post("/v1/study/anna/knees", files=files[:1]).json()["knees"]
    answer = service.post("/v1/study/anna/readings", json={"id": knee["id"], "grade": grade})
    assert answer.json()["error"]["code"] == "bad_request" and not (tmp_path / "anna.csv").exists()


def test_a_file_that_somebody_changed(service, files, tmp_path):
    (tmp_path / "anna.csv").write_text("a,b\n1,2\n")
    for answer in (service.get("/v1/study/anna"), service.get("/v1/study/anna/agreement")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert service.get("/v1/study/none/agreement").json()["error"]["message"] == "none.csv: nothing has been read yet"


def test_a_folder_that_went_away_is_told_and_the_reading_can_be_sent_again(client, files, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    service = client(studies=Studies(folder, "tiny"))
    [knee] = service.post("/v1/study/anna/knees", files=files[:1]).json()["knees"]
    folder.rmdir()
    reading = {"id": knee["id"], "grade": 3}
    assert service.post("/v1/study/anna/readings", json=reading).json()["error"]["code"] == "not_recorded"
    folder.mkdir()
    assert service.post("/v1/study/anna/readings", json=reading).status_code == 200


def test_without_a_folder_there_is_no_reader_mode(client):
    answer = client().get("/v1/study/anna")
    assert answer.status_code == 404 and "study=FOLDER" in answer.json()["error"]["message"]
