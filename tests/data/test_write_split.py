import shutil
from pathlib import Path

import pytest

from koa_lightning.config.compose import compose
from koa_lightning.data import build as data_build
from koa_lightning.data import write_split as entry
from koa_lightning.errors import InputError

OPTIONS = ["data.image_size=16", "data.cache_dir=cache"]


@pytest.fixture
def folder(knees, tmp_path, monkeypatch):
    """A copy of the knees, with a space in its name, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(knees, tmp_path / "my knees")
    return tmp_path / "my knees"


@pytest.fixture
def data(folder):
    """Return a data module of the folder, by its config."""

    def make(*more, root=folder):
        cfg = compose("train", ["data=folder", f"data.root='{root}'", *OPTIONS, *more])
        return data_build.data_module(cfg.data, quiet=True)

    return make


@pytest.fixture
def written(folder):
    """Write the split of the folder; return the file."""

    def run(*more, out="out"):
        result = entry.split(compose("split", ["data=folder", f"data.root='{folder}'", *more, f"out={out}"]))
        return Path(result["file"])

    return run


def imported(file, *more):
    return ["data.split=table", f"data.split_table='{file}'", *more]


def test_it_is_the_same_wherever_the_data_lies(data, written, folder, tmp_path):
    file = written("data.folds=2")
    folder.rename(tmp_path / "elsewhere")
    other = data(*imported(file), root="elsewhere")
    assert other.prepare(("train", "val")).fingerprint
    again = entry.split(
        compose("split", ["data=folder", "data.root=elsewhere", *imported(file), "data.folds=2", "out=again"])
    )
    assert Path(again["file"]).read_bytes() == file.read_bytes()


def test_another_split_is_not_written_over(written):
    file = written()
    assert written() == file
    with pytest.raises(InputError, match="already has another split"):
        written("data.split_seed=1")


@pytest.mark.parametrize("folds", [[], ["data.folds=2"]])
def test_a_share_of_the_knees_is_no_split(written, folds):
    with pytest.raises(InputError, match=r"^data\.fraction=0\.5: a written split has all knees; omit this here"):
        written("data.fraction=0.5", *folds)
    assert not Path("out").exists()


def test_phantoms_need_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["data=phantom", "data.source.n_patients=30"]
    file = entry.split(compose("split", [*options, "out=out"]))["file"]
    one = data_build.data_module(compose("train", options).data)
    other = data_build.data_module(compose("train", [*options, *imported(file)]).data)
    assert one.manifest().equals(other.manifest())


def test_from_the_command_line(launch, folder):
    done = launch("split", "data=folder", f"data.root={folder}", "data.folds=2", "out=my split")
    assert (done.code, done.err) == (0, [])
    assert "use it with data.split=table 'data.split_table=" in "\n".join(done.out)
    assert "research use only, not a medical device" in done.out
    wrong = launch("split", "data=folder", f"data.root={folder}", "data.split_table=my split/split.csv")
    assert wrong.code == 2
    assert wrong.err == ["error: data.split_table=my split/split.csv: type data.split=table too"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.val_fraction=0"], "data=folder: no knee in the val split; existing splits: train, test"),
        (["data.folds=9"], "data=folder: the val split has no knee of grade"),
    ],
)
def test_a_split_that_train_would_refuse_is_not_written(overrides, line, written, folder):
    with pytest.raises(InputError, match=f"^{line}"):
        written(*overrides)
    assert not (folder.parent / "out").exists()
