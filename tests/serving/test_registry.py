import pytest

from koa_lightning.checkpoint import reading
from koa_lightning.errors import InputError
from koa_lightning.serving.registry import register
from koa_lightning.tracking.checkpoints import find_checkpoint
from koa_lightning.tracking.runs import find_run
from koa_lightning.tracking.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def here(place):
    return open_store(None, place / "mlruns", create=False)


def test_a_version_is_stored_once_and_found_again(log_run, here, write_checkpoint, tmp_path):
    file = write_checkpoint(tmp_path / "best.ckpt", marks=["phantom data", "no pretrained weights"])
    run = find_run(here, log_run("first", checkpoint=file, metrics={"best/quadratic_kappa": 0.71, "best/ece": 0.1}))
    first = register(here, run, reading.read(file), "koa-grader", "champion")
    again = register(here, run, reading.read(file), "koa-grader", "trial")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.version.version == again.version.version
    tags = first.version.tags
    assert (tags["marks"], tags["data.fingerprint"], tags["network"]) == (
        "phantom data, no pretrained weights",
        "abc",
        "test_efficientnet",
    )
    assert tags["best.quadratic_kappa"] == "0.7100" and "best.ece" not in tags
    assert "NOT A RESULT: phantom data, no pretrained weights" in first.version.description
    assert "Research use only, not a medical device." in first.version.description
    for address in ("models:/koa-grader@champion", "models:/koa-grader@trial", "models:/koa-grader/1"):
        assert find_checkpoint(address, here.uri).read_bytes() == file.read_bytes()
    copied = find_checkpoint("models:/koa-grader/1", here.uri, into=tmp_path / "copies")
    assert copied.is_relative_to(tmp_path / "copies") and copied.read_bytes() == file.read_bytes()


def test_a_run_that_trained_on_leaves_the_old_version_as_it_was(log_run, here, write_checkpoint, tmp_path):
    file = write_checkpoint(tmp_path / "best.ckpt")
    run = find_run(here, log_run("first", checkpoint=file))
    register(here, run, reading.read(file), "koa-grader", "champion")
    old = file.read_bytes()
    write_checkpoint(file, seed=1)
    second = register(here, run, reading.read(file), "koa-grader", "champion")
    assert second.is_new and int(second.version.version) == 2
    assert find_checkpoint("models:/koa-grader/1", here.uri).read_bytes() == old
    assert find_checkpoint("models:/koa-grader@champion", here.uri).read_bytes() == file.read_bytes() != old


def test_what_is_not_there(log_run, here, write_checkpoint, tmp_path):
    file = write_checkpoint(tmp_path / "best.ckpt")
    run = find_run(here, log_run("first", checkpoint=file))
    with pytest.raises(InputError, match=r"models:/x@y: no model 'x' \(there are: none\)"):
        find_checkpoint("models:/x@y", here.uri)
    register(here, run, reading.read(file), "koa-grader", "champion")
    for address, words in (
        ("models:/koa-grader@best", "no such version; koa-grader has 1, @champion in"),
        ("models:/koa-grader/7", "no such version; koa-grader has 1, @champion in"),
        ("models:/koa", "must be models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/koa/latest", "must be models:/NAME@ALIAS"),
        ("models:/kao-grader/1", r"no model 'kao-grader' \(there are: koa-grader\)"),
    ):
        with pytest.raises(InputError, match=words):
            find_checkpoint(address, here.uri)
    log_run.client.create_registered_model("foreign")
    log_run.client.create_model_version("foreign", f"runs:/{run.info.run_id}/elsewhere", run.info.run_id)
    with pytest.raises(InputError, match="models:/foreign/1: holds no checkpoint of koa_lightning"):
        find_checkpoint("models:/foreign/1", here.uri)
    for name, alias in (("a/b", None), ("koa-grader", "latest"), ("koa-grader", "v1"), ("", None)):
        with pytest.raises(InputError, match=f"name={name}: "):
            register(here, run, reading.read(file), name, alias)
