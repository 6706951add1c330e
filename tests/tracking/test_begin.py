import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from koa_lightning.checkpoint.reading import record_of
from koa_lightning.config import run_folder
from koa_lightning.errors import InputError
from koa_lightning.tracking.begin import caveat_tags, closing, describe, open_run
from koa_lightning.tracking.none import NoRun

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def begun(place):
    """Open runs in the default store of a folder, and close them in the end."""
    opened = []

    def start(run_id=None, uri=None, attach=False, **more):
        values = {
            "enabled": True, "uri": None, "experiment": "koa", "run_name": None, "system_metrics": False, "tags": {},
            **more,
        }  # fmt: skip
        opened.append(open_run(OmegaConf.create(values), Path("run"), "named", run_id, uri, attach))
        return opened[-1]

    yield start
    for run in opened:
        run.close()


def ended(run):
    run.close()
    return run


def test_not_enabled(begun):
    assert isinstance(begun(enabled=False, uri="http://127.0.0.1:9"), NoRun)


def test_only_the_first_of_several_processes_logs(begun, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert isinstance(begun(), NoRun)


def test_a_new_run(begun, place):
    run = begun(tags={"cohort": 3})
    assert (run.name, run.experiment, run.uri) == ("named", "koa", f"sqlite:///{place}/mlruns/mlflow.db")
    run.close()
    tags = run._sender._deliver.args[0].get_run(run.run_id).data.tags
    assert tags["cohort"] == "3"
    assert "version.torch" in tags
    assert begun(run_name="given").name == "given"


def test_a_run_continues_where_it_was(begun, place, monkeypatch, tmp_path_factory):
    first = ended(begun())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    again = begun(run_id=first.run_id, uri=first.uri)
    assert (again.run_id, again.name) == (first.run_id, "named")
    with pytest.raises(InputError, match="type tracking=none"):
        begun(run_id="0" * 32, uri=first.uri)


def test_attached_to_the_run_that_is_there(begun):
    first = ended(begun())
    added = begun(run_id=first.run_id, uri=first.uri, attach=True)
    assert (added.run_id, added.attached) == (first.run_id, True)


def test_attached_to_a_run_that_is_not_there(begun, capsys):
    first = ended(begun())
    added = begun(run_id="0" * 32, uri=first.uri, attach=True)
    assert added.run_id not in (first.run_id, "0" * 32)
    assert not added.attached
    assert f"the run that trained this, {'0' * 32}, is not in sqlite:///" in capsys.readouterr().err


def test_a_leaky_run_has_a_tag_of_its_own():
    assert caveat_tags([]) == {"marks": "none"}
    assert caveat_tags(["phantom data"]) == {"marks": "phantom data"}
    assert caveat_tags(["phantom data", "leaky"]) == {"marks": "phantom data, leaky", "leaky": "true"}


def test_the_command_of_a_run_that_was_typed(begun, tiny_record, tmp_path):
    run = begun()
    secret = "https://anna:s3cret@host"
    run_folder.remember(tmp_path / "out", ["loss=ce", "data.root='a b'", "out='x'", f"tracking.uri='{secret}'"])
    record = record_of({**tiny_record(), "data": {"name": "chen2018", "fingerprint": "abc", "counts": {}}, "marks": []})
    config = {"seed": 7, "out": str(tmp_path / "out"), "tracking": {"uri": secret}}
    describe(run, config, record, "/knees", "cpu")
    run.close()
    client = run._sender._deliver.args[0]
    data = client.get_run(run.run_id).data
    said = ["loss=ce", "data.root=a b", "tracking.uri=https://host"]
    assert shlex.split(data.tags["command"]) == ["python", "-m", "koa_lightning.train", *said]
    assert data.params["tracking.uri"] == "https://host"
    assert "s3cret" not in Path(client.download_artifacts(run.run_id, "config.yaml", str(tmp_path))).read_text()
    assert f"tracking.uri={secret}" in run_folder.recorded(tmp_path / "out")  # a run that continues needs it


def test_describe(begun, tiny_record):
    run = begun()
    changes = {
        "data": {"name": "chen2018", "fingerprint": "abc", "counts": {"train": [5, 4, 3, 2, 1], "val": [1] * 5}},
        "plan": {"precision": "bf16", "channels_last": True, "reason": "GPU with bf16"},
        "weights": "hub:x", "marks": [],
    }  # fmt: skip
    record = record_of({**tiny_record(), **changes})
    describe(run, {"seed": 7, "a": {"b": None, "c": [1, 2]}}, record, "/knees", "cuda")
    client = run._sender._deliver.args[0]
    run.close()
    found = client.get_run(run.run_id)
    assert found.data.params == {"seed": "7", "a.b": "null", "a.c": "[1, 2]"}
    assert {
        "data": "chen2018",
        "device": "cuda",
        "marks": "none",
        "weights": "hub:x",
    }.items() <= found.data.tags.items()
    assert found.inputs.dataset_inputs[0].dataset.name == "chen2018"
    assert "config.yaml" in [item.path for item in client.list_artifacts(run.run_id)]


def test_a_run_is_closed_as_its_block_ends():
    ends = []
    run = SimpleNamespace(close=ends.append)
    with closing(run):
        pass
    with pytest.raises(ValueError, match="x"), closing(run):
        raise ValueError("x")
    assert ends == ["FINISHED", "FAILED"]
