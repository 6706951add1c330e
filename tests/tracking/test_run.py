import inspect
import math

import pytest
import torch

from koa_lightning.errors import InputError
from koa_lightning.tracking.none import NoRun
from koa_lightning.tracking.resend import main as resend
from koa_lightning.tracking.run import MlflowRun, start_run
from koa_lightning.tracking.spool import Spool


@pytest.mark.parametrize("parent", ["nosuchrun", "f" * 32])
def test_a_parent_that_is_not_there(parent, begin, client):
    before = len(client.search_runs([client.get_experiment_by_name("Default").experiment_id]))
    with pytest.raises(InputError, match=rf"^tracking\.parent={parent}: no such run in sqlite:.*; give the id of one$"):
        begin(parent=parent)
    assert len(client.search_runs([client.get_experiment_by_name("Default").experiment_id])) == before
    deleted = begin().run_id
    client.delete_run(deleted)
    with pytest.raises(InputError, match=rf"^tracking\.parent={deleted}: was deleted; restore it"):
        begin("second", parent=deleted)


def test_a_run_holds_what_was_logged(begin, client, tmp_path):
    parent = begin("parent").run_id
    run = begin(tags={"git.commit": "abc", "mlflow.source.name": "koa-train"}, parent=parent)
    run.log_params({"trainer": {"max_epochs": 3}, "mean": [0.5]})
    run.log_metrics({"val/loss": torch.tensor(0.5), "val/odd": math.nan}, 2)
    run.log_tags({"marks": ["phantom data"]})
    (tmp_path / "best.ckpt").write_bytes(b"x")
    run.log_artifact(tmp_path / "best.ckpt", "checkpoints")
    run.log_text("a: 1", "config.yaml")
    run.log_dataset("phantom", "f" * 64, "/x", {"train": {"0": 3}}, "training")
    assert run.close() == []
    logged = client.get_run(run.run_id)
    assert logged.data.params == {"trainer.max_epochs": "3", "mean": "[0.5]"}
    assert logged.data.metrics["val/loss"] == 0.5
    assert math.isnan(logged.data.metrics["val/odd"])
    expected = {
        "git.commit": "abc",
        "marks": '["phantom data"]',
        "mlflow.source.name": "koa-train",
        "mlflow.parentRunId": parent,
    }
    assert expected.items() <= logged.data.tags.items()
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "first")
    assert logged.inputs.dataset_inputs[0].dataset.name == "phantom"
    assert [item.path for item in client.list_artifacts(run.run_id, "checkpoints")] == ["checkpoints/best.ckpt"]
    assert run.history()["val/loss"] == [(2, 0.5)]
    assert not (tmp_path / "run").exists()


def test_long_value_is_whole_in_an_artifact(begin, client, tmp_path):
    run = begin()
    run.log_params({"a": {"long": "z" * 7000}, "limit": "y" * 6000})
    run.close()
    params = client.get_run(run.run_id).data.params
    assert params["limit"] == "y" * 6000
    file = params["a.long"].rsplit(" ", 1)[-1]
    assert (tmp_path / client.download_artifacts(run.run_id, file, str(tmp_path))).read_text() == "z" * 7000


def test_logging_does_not_wait_for_the_store(begin, client):
    run = begin()
    client.open.clear()
    for step in range(50):
        run.log_metrics({"loss": 1.0}, step)
    assert client.batches == []
    client.open.set()
    assert run.close() == []
    assert len(client.get_metric_history(run.run_id, "loss")) == 50


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_status_says_how_it_ended(begin, client, status):
    run = begin()
    assert run.close(status) == run.close("FINISHED") == []
    assert client.get_run(run.run_id).info.status == status


def test_dead_store_is_said_once_with_the_command_that_mends_it(begin, client, tmp_path, caplog, capsys):
    run = begin()
    run.log_metrics({"loss": 1.0}, 0)
    client.down = True
    run.log_metrics({"loss": 0.5}, 1)
    missing = run.close()
    assert missing == run.close()
    assert "1 status" in missing
    lines = [line for line in caplog.messages if "NOT LOGGED" in line]
    assert len(lines) == 1
    assert f"python -m koa_lightning.tracking.resend {tmp_path / 'run'}" in lines[0]

    client.down = False
    for _ in range(2):  # the second time there is nothing left
        assert resend([str(tmp_path / "run")]) == 0
        assert [row.value for row in client.get_metric_history(run.run_id, "loss")] == [1.0, 0.5]
        assert client.get_run(run.run_id).info.status == "FINISHED"
        assert not (tmp_path / "run" / "unsent.jsonl").exists()
    assert "nothing waits" in capsys.readouterr().out


def test_resumed_run_continues_and_shows_what_changed(begin, client):
    first = begin(tags={"git.commit": "abc", "seed": "1"})
    first.log_params({"max_epochs": 3, "lr": 0.1})
    first.log_metrics({"loss": 1.0}, 0)
    first.close("KILLED")
    again = begin(None, run_id=first.run_id, tags={"git.commit": "def", "seed": "1"})
    assert client.get_run(first.run_id).info.status == "RUNNING"
    again.log_params({"max_epochs": 5, "lr": 0.1, "new": True})
    again.log_metrics({"loss": 0.5}, 1)
    assert again.close() == []
    logged = client.get_run(first.run_id)
    assert logged.data.params == {"max_epochs": "3", "lr": "0.1", "new": "true"}
    resumed = {name: value for name, value in logged.data.tags.items() if name.startswith("resumed.")}
    assert resumed == {"resumed.max_epochs": "5", "resumed.git.commit": "def"}
    assert again.history() == {"loss": [(0, 1.0), (1, 0.5)]}
    assert again.name == "first"
    assert logged.info.status == "FINISHED"


def test_resumed_run_first_sends_what_was_left(begin, client):
    first = begin()
    client.down = True
    first.log_metrics({"loss": 1.0}, 0)
    assert first.close("KILLED")
    client.down = False
    again = begin(run_id=first.run_id)
    assert again.history() == {"loss": [(0, 1.0)]}
    assert client.get_run(first.run_id).info.status == "RUNNING"  # how the first start ended is not sent any more
    assert again.close() == []
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_run_folder_with_the_rest_of_another_run_is_refused(begin, tmp_path):
    Spool(tmp_path / "run", "0" * 32, "uri").append([{"op": "tags", "values": {}}])
    with pytest.raises(InputError, match="holds entries of another run; send them"):
        begin()


@pytest.mark.parametrize("run_id", ["0" * 32, "not an id"])
def test_unknown_run_is_one_line(begin, run_id):
    with pytest.raises(InputError, match="run in sqlite"):
        begin(run_id=run_id)


def test_deleted_run_names_the_way_back(begin, client):
    run = begin()
    run.close()
    client.delete_run(run.run_id)
    with pytest.raises(InputError, match="mlflow runs restore"):
        begin(run_id=run.run_id)


def test_store_that_dies_before_the_start_is_one_line(begin, client, store, tmp_path):
    store.experiment_id("knees")
    client.down = True
    with pytest.raises(InputError, match="tracking=none"):
        start_run(store, "knees", "x", tmp_path, client=client)


def test_system_metrics_come_without_asking_the_server(begin, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "3600")
    run = begin(system_metrics=True)
    run.close()
    again = begin(run_id=run.run_id, system_metrics=True)
    client.down = True
    assert again.close()
    client.down = False
    begin(run_id=run.run_id).close()
    rows = client.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
    assert [row.step for row in rows] == [0, 1]
    assert again.history() == {}


def test_no_run_has_the_same_methods():
    def interface(kind):
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(method) for name, method in members if not name.startswith("_")}

    assert interface(NoRun) == interface(MlflowRun)


def test_no_run_keeps_only_the_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = NoRun()
    run.log_params({"a": 1})
    run.log_metrics({"loss": torch.tensor(1.0)}, 3)
    run.log_tags({"a": 1})
    run.log_artifact(tmp_path / "none.ckpt")
    run.log_text("a", "a.txt")
    run.log_dataset("d", "f", "/x", {}, "training")
    assert run.history() == {"loss": [(3, 1.0)]}
    assert run.close("FAILED") == []
    assert list(tmp_path.iterdir()) == []
