import json

import pytest

from koa_lightning.tracking.deliver import deliver


@pytest.fixture
def run_id(store):
    return store.client().create_run(store.experiment_id("knees")).info.run_id


def metrics(name, value, step=0):
    return {"op": "metrics", "values": {name: value}, "step": step, "time": 1_000}


def test_neighbours_go_in_one_call(client, run_id):
    assert deliver(client, run_id, [metrics("loss", 1.0, step) for step in range(5)]).left == []
    assert [len(batch["metrics"]) for batch in client.batches] == [5]


def test_large_batches_are_split_at_mlflows_limits(client, run_id):
    entries = [metrics("loss", 1.0, step) for step in range(1001)]
    entries += [{"op": op, "values": {f"{op}{n}": "x" for n in range(101)}} for op in ("params", "tags")]
    assert deliver(client, run_id, entries).left == []
    sizes = [len(next(iter(batch.values()))) for batch in client.batches]
    assert sizes == [1000, 1, 100, 1, 100, 1]


def test_delivering_twice_changes_nothing(client, run_id, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    profile = {"train": {"0": 3}}
    entries = [
        metrics("loss", 1.0),
        {"op": "params", "values": {"lr": "0.1"}},
        {"op": "tags", "values": {"a": "b"}},
        {"op": "artifact", "local": str(tmp_path / "a.txt"), "folder": None},
        {"op": "text", "text": "b", "file": "b.txt"},
        {
            "op": "dataset",
            "name": "d",
            "digest": "f" * 64,
            "source": "/x",
            "profile": profile,
            "context": "training",
        },
        {"op": "status", "status": "FINISHED", "time": 5_000},
    ]
    for _ in range(2):
        assert deliver(client, run_id, entries).left == []
        run = client.get_run(run_id)
        assert [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")] == [(0, 1.0)]
        assert run.data.params == {"lr": "0.1"}
        assert run.data.tags["a"] == "b"
        assert (run.info.status, run.info.end_time) == ("FINISHED", 5_000)
        assert sorted(item.path for item in client.list_artifacts(run_id)) == ["a.txt", "b.txt"]
        (dataset,) = run.inputs.dataset_inputs
        assert json.loads(dataset.dataset.profile) == profile | {"digest": "f" * 64}
        assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "training"}


def test_outage_leaves_everything_from_there_on(client, run_id):
    client.down = True
    entries = [metrics("a", 1.0), metrics("b", 2.0), {"op": "tags", "values": {"x": "y"}}]
    delivery = deliver(client, run_id, entries)
    assert delivery.left == entries
    assert "refused" in delivery.outage


def test_one_bad_entry_is_named_and_left_alone(client, run_id):
    bad = metrics("no*star", 1.0)
    delivery = deliver(client, run_id, [metrics("a", 1.0), bad, metrics("b", 2.0)])
    assert delivery.left == [bad]
    assert "no*star" in delivery.refused[0]
    assert not delivery.outage
    assert client.get_run(run_id).data.metrics == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    "entry", [{"op": "artifact", "local": "/no/such/file", "folder": None}, {"op": "of another version"}]
)
def test_what_can_never_be_sent_does_not_stop_the_rest(client, run_id, entry):
    delivery = deliver(client, run_id, [entry, metrics("a", 1.0)])
    assert delivery.left == [entry]
    assert client.get_run(run_id).data.metrics == {"a": 1.0}


def test_deleted_run_is_no_outage(client, run_id):
    client.delete_run(run_id)
    delivery = deliver(client, run_id, [metrics("a", 1.0)])
    assert len(delivery.left) == 1
    assert not delivery.outage
