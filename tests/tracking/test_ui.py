"""MLflow's own pages in a headless browser: a stranger finds the best run of a sweep, and its pictures."""

import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from koa_lightning.reporting import figures, saving
from koa_lightning.sweeps.note import TAG
from koa_lightning.tracking import ui
from koa_lightning.tracking.run import start_run
from tests.fixtures.browsers import look, wait

pytestmark = pytest.mark.slow
KAPPAS = {"tiny-ce lr=1e-5": 0.31, "tiny-ce lr=1e-3": 0.72, "tiny-ce lr=1e-4": 0.55, "tiny-ce lr=1e-2": 0.12}


@pytest.fixture
def sweep(store, tmp_path):
    """A parent and four children, the second one the best; returns the name of each run by its id."""
    parent = start_run(store, "koa-lightning", "sweep lr", tmp_path / "parent")
    names = {}
    for name, kappa in KAPPAS.items():
        run = start_run(store, "koa-lightning", name, tmp_path / name, parent=parent.run_id)
        run.log_metrics({"val/quadratic_kappa": kappa, "best/quadratic_kappa": kappa}, 0)
        figure = figures.confusion_matrix_figure(np.eye(5, dtype=int), name)
        run.log_artifact(saving.save(figure, tmp_path / name / "confusion_matrix.png")[0], "figures")
        run.close()
        names[run.run_id] = name
    best = next(run_id for run_id, name in names.items() if name == "tiny-ce lr=1e-3")
    parent.log_tags({TAG: f"**Best: [trial 1](#/experiments/{parent.experiment_id}/runs/{best})**"})
    parent.close()
    return names


@pytest.fixture
def server(store, sweep):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--port", str(port)]
    process = subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: answers(f"http://127.0.0.1:{port}/health"), 120)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def answers(address):
    """Tell whether a server is there."""
    try:
        return urllib.request.urlopen(address).status == 200
    except OSError:
        return False


@pytest.fixture
def browser(chromium):
    """The browser, wide enough for a table of runs."""
    look(chromium, 1600, 1100)
    chromium.switch_to.default_content()
    return chromium


def test_the_best_run_is_one_click_away_and_its_pictures_open(server, browser, sweep, store):
    browser.get(f"{server}/{ui.best_first(store)}")
    rows = wait(lambda: browser.find_elements("css selector", "[role=gridcell] a[href*='/runs/']"))
    shown = [row.text for row in rows if row.text in KAPPAS]
    assert shown == sorted(KAPPAS, key=lambda name: -KAPPAS[name])
    heads = {head.text for head in browser.find_elements("css selector", "[role=columnheader]")}
    assert {"Created", "best/quadratic_kappa"} <= heads and "Source" not in heads, heads
    browser.execute_script("arguments[0].click()", rows[0])
    wait(lambda: browser.find_element("xpath", "//*[text()='Artifacts']")).click()
    wait(lambda: browser.find_element("xpath", "//*[text()='figures']")).click()
    wait(lambda: browser.find_element("xpath", "//*[text()='confusion_matrix.png']")).click()
    wide = "return Math.max(...[...document.images].map(image => image.naturalWidth))"
    assert wait(lambda: browser.execute_script(wide) > 600)


def test_the_sweep_links_its_best_run(server, browser, sweep):
    browser.get(f"{server}/#/experiments/{experiment(server)}/runs?workflowType=machine_learning")
    wait(lambda: browser.find_element("xpath", "//a[contains(., 'sweep lr')]")).click()
    link = wait(lambda: browser.find_element("xpath", "//a[text()='trial 1']")).get_attribute("href")
    assert sweep[link.rsplit("/", 1)[-1]] == "tiny-ce lr=1e-3"


def test_the_report_opens_in_the_artifact_view(server, browser, store, tmp_path, graded_table):
    graded_table().to_csv(tmp_path / "table.csv", index=False)
    typed = [f"table={tmp_path / 'table.csv'}", f"out={tmp_path / 'out'}"]
    subprocess.run([sys.executable, "-m", "koa_lightning.report", *typed], check=True, cwd=tmp_path)
    run = start_run(store, "koa-lightning", "measured", tmp_path / "measured")
    run.log_artifact(tmp_path / "out" / "report.html", "eval/test")
    run.close()
    place = f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/eval/test/report.html"
    browser.get(place)
    frame = wait(lambda: browser.find_element("css selector", "iframe"))
    browser.switch_to.frame(frame)
    text = wait(lambda: browser.find_element("tag name", "body").text)
    assert "not a medical device" in text
    drawn = "return [...document.images].filter(image => image.naturalWidth > 100).length"
    assert wait(lambda: browser.execute_script(drawn) > 2)
    browser.save_screenshot(str(tmp_path / "report.png"))


def experiment(server):
    """Return the id of the experiment, 1 in a new database."""
    from mlflow import MlflowClient

    return MlflowClient(server).get_experiment_by_name("koa-lightning").experiment_id
