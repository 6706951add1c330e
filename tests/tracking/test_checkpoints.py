import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from koa_lightning.errors import InputError
from koa_lightning.tracking.checkpoints import find_checkpoint, fold_addresses


@pytest.fixture
def run_id(begin, tmp_path):
    run = begin()
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_text(name)
        run.log_artifact(tmp_path / name, "checkpoints")
    run.close()
    return run.run_id


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "best.ckpt"), ("/", "best.ckpt"), ("/checkpoints/last.ckpt", "last.ckpt")],
)
def test_address_gives_the_file(store, run_id, path, name):
    found = find_checkpoint(f"runs:/{run_id}{path}", store.uri)
    assert found.read_text() == name
    assert store.artifacts in found.parents  # on this machine nothing is copied


def test_copy_goes_where_it_is_told(store, run_id, tmp_path):
    found = find_checkpoint(f"runs:/{run_id}", None, store.artifacts.parent, into=tmp_path / "new" / "folder")
    assert found.read_text() == "best.ckpt"
    assert (tmp_path / "new" / "folder") in found.parents


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("checkpoints/none.ckpt", "it holds checkpoints/best.ckpt, checkpoints/last.ckpt"),
        ("x/y.ckpt", "x/ is empty"),
    ],
)
def test_missing_file_says_what_there_is(store, run_id, path, words):
    with pytest.raises(InputError, match=words):
        find_checkpoint(f"runs:/{run_id}/{path}", store.uri)


def test_unknown_run(store):
    with pytest.raises(InputError, match="no such run in sqlite"):
        find_checkpoint(f"runs:/{'0' * 32}", store.uri)


@pytest.mark.parametrize("uri", ["runs:/", "runs:/123", "best.ckpt", "runs:/../../etc/passwd"])
def test_malformed_address(store, uri):
    with pytest.raises(InputError, match="must be runs:/ID"):
        find_checkpoint(uri, store.uri)


@pytest.mark.parametrize("path", ["../../../secret", "checkpoints/../../x.ckpt", "/etc/passwd"])
def test_no_way_out_of_the_run(store, run_id, path):
    with pytest.raises(InputError):
        find_checkpoint(f"runs:/{run_id}/{path}", store.uri)


def test_missing_store_is_not_made(tmp_path):
    with pytest.raises(InputError, match="no such tracking database"):
        find_checkpoint(f"runs:/{'0' * 32}", f"sqlite:///{tmp_path}/none/mlflow.db")
    assert not (tmp_path / "none").exists()


def test_the_folds_of_a_cross_validation(store):
    client = store.client()
    experiment = store.experiment_id("folds")
    parent = client.create_run(experiment).info.run_id
    client.log_param(parent, "data.folds", "2")
    address = f"runs:/{parent}"
    assert fold_addresses(address, store.uri) == []  # a run without children is no cross-validation
    children = []
    for fold, status in ((1, "FINISHED"), (0, "KILLED"), (0, "FINISHED")):
        child = client.create_run(experiment, tags={MLFLOW_PARENT_RUN_ID: parent}).info.run_id
        client.log_param(child, "data.fold", str(fold))
        client.set_terminated(child, status)
        children.append(child)
        if status == "KILLED":
            with pytest.raises(InputError, match=r"fold 0 of 2 has not finished; finish the cross-validation first"):
                fold_addresses(address, store.uri)
    assert fold_addresses(address, store.uri) == [f"runs:/{children[2]}", f"runs:/{children[0]}"]
    assert fold_addresses(f"{address}/checkpoints/last.ckpt", store.uri) == []
    assert fold_addresses(f"runs:/{'a' * 32}", store.uri) == []
