import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image

from koa_lightning.tracking.postgres import free_port
from koa_lightning.tracking.server import end
from koa_lightning.tracking.store import why_unreachable

pytestmark = pytest.mark.filterwarnings("ignore")


def test_from_a_run_to_predictions(launch, log_run, write_checkpoint, knees, place):
    file = write_checkpoint(place / "best.ckpt")
    run_id = log_run("first", checkpoint=file)
    ended = launch("register", "run=first", "name=koa-grader", "alias=champion")
    assert ended.code == 0, ended.err
    assert ended.err == ["WARNING: phantom data; the version carries this caveat"]
    assert ended.out[0] == f"koa-grader version 1: registered, from run first ({run_id})"
    assert "ckpt=models:/koa-grader@champion" in ended.out[1]
    assert not (place / "outputs").exists()
    again = launch("register", f"run={run_id}", "alias=null")
    assert again.out[0].startswith("koa-grader version 1: exists already") and "models:/koa-grader/1" in again.out[1]
    tables = []
    for address in (str(file), f"runs:/{run_id}", "models:/koa-grader@champion", "models:/koa-grader/1"):
        done = launch("predict", f"ckpt={address}", f"input={knees}/4", "overlays=false", "quiet=true", "out=p")
        assert done.code == 0, done.err
        tables.append(pd.read_parquet("p/predictions.parquet"))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("main", "arguments", "start"),
    [
        ("register", [], "error: run: must be given; type run=VALUE"),
        ("register", ["run=nobody"], "error: run=nobody: no run of this id or name in sqlite:///"),
        ("register", ["run=empty"], "error: runs:/"),
        ("register", ["run=twin"], "error: run=twin: 2 runs have this name; type the id of one: "),
        ("register", ["run=empty", "tracking.uri=sqlite:///none.db"], "error: "),
        ("register", ["run=empty", "tracking.uri=http://127.0.0.1:9"], "error: tracking.uri=http://127.0.0.1:9: "),
        ("register", ["run=empty", "nmae=x"], "error: nmae: no such key in the configuration; did you mean 'name'?"),
        ("predict", ["ckpt=models:/x@y", "input=here"], "error: models:/x@y: no model 'x' (there are: none)"),
        ("eval", ["ckpt=models:/x"], "error: models:/x: must be models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_bad_input_is_one_line(main, arguments, start, launch, log_run, knees):
    for name in ("twin", "twin", "empty"):
        log_run(name)
    ended = launch(main, *[f"input={knees}" if item == "input=here" else item for item in arguments])
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start)
    if arguments == ["run=empty"]:
        assert "the run has no checkpoints/best.ckpt; checkpoints/ is empty" in ended.err[0]


@pytest.mark.slow
def test_a_png_over_http(launch, log_run, write_checkpoint, knees, place, with_package):
    file = write_checkpoint(place / "best.ckpt")
    log_run("first", checkpoint=file)
    assert launch("register", "run=first").code == 0
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/koa-grader@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    uri = f"sqlite:///{place}/mlruns/mlflow.db"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    env = with_package | {"PATH": path, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    picture = sorted(knees.rglob("*.png"))[0]

    def ask(row):
        body = json.dumps({"dataframe_records": [row]})
        headers = {"Content-Type": "application/json"}
        return requests.post(f"http://127.0.0.1:{port}/invocations", data=body, headers=headers, timeout=60)

    with (place / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, env=env, start_new_session=True, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 180
            while why_unreachable(f"http://127.0.0.1:{port}", 3):
                assert server.poll() is None and time.monotonic() < until, (place / "log.txt").read_text()
                time.sleep(0.5)
            image = base64.b64encode(picture.read_bytes()).decode()
            answer = ask({"image": image})
            assert answer.status_code == 200, answer.text
            (graded,) = answer.json()["predictions"]
            pixels = np.asarray(Image.open(picture)).tolist()
            assert ask({"pixels": pixels}).json()["predictions"] == [graded]
            for row, words in (
                ({"image": base64.b64encode(b"no picture").decode()}, "image 0: not a readable PNG"),
                ({"image": base64.b64encode(picture.read_bytes()[:900]).decode()}, "image 0: truncated or damaged"),
                ({"image": "abc"}, "Incorrect padding"),  # no base64; MLflow's own words
                ({"pixels": [[300] * 9] * 9}, "image 0: pixels must be"),
                ({"picture": image}, "there is neither a column image"),
            ):
                refused = ask(row)
                assert refused.status_code == 400, refused.text
                assert words in refused.json()["message"]
            assert ask({"image": image}).json()["predictions"] == [graded]  # and continues
        finally:
            end(server)
    done = launch("predict", f"ckpt={file}", f"input={picture}", "overlays=false", "quiet=true", "out=p")
    assert done.code == 0, done.err
    row = pd.read_parquet("p/predictions.parquet").iloc[0]
    assert (graded["grade"], graded["name"]) == (row["predicted"], row["name"])
    for column in ("p0", "p1", "p2", "p3", "p4", "expected_grade"):
        assert graded[column] == pytest.approx(float(row[column]), abs=1e-6)
    assert graded["note"] == "research use only, not a medical device, phantom data"
