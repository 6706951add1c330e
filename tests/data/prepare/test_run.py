import numpy as np
import pandas as pd
import pytest

from koa_lightning.config.compose import compose
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare import names, prepare


def knee(number=0, size=64):
    image = draw_phantoms([f"p{number}"], ["R"], [number % 5], seed=1, size=size)[0]
    return image.astype(np.uint16) * 16


@pytest.fixture
def run(tmp_path):
    def run(where, *overrides, out="out"):
        folder = tmp_path / out
        arguments = [f"input='{where}'", f"output='{folder}'", "quiet=true", *overrides]
        return prepare.prepare(compose("prepare", arguments)), folder

    return run


def knees_of(folder):
    return pd.read_csv(folder / "knees.csv", dtype={"patient": "str"}, keep_default_na=False)


def test_a_kill_between_two_knees_leaves_none_that_counts_as_whole(run, write_dicom, tmp_path, monkeypatch):
    from koa_lightning.data.prepare.record import Record
    from koa_lightning.data.prepare.run import Outcome, Settings, prepare_files

    film = write_dicom(tmp_path / "in/both.dcm", np.hstack([knee(1), knee(2)]), 12, PatientID="P1")
    _, out = run(tmp_path / "in", "films=never")
    key, add = names.find_key(None, out), Record.add

    def killed(self, row):
        if row.knee == 2:
            raise KeyboardInterrupt
        add(self, row)

    monkeypatch.setattr(Record, "add", killed)
    with pytest.raises(KeyboardInterrupt):  # and the record is never closed
        prepare_files([film], Record(out, key.mark), key, Settings(None, "always", "none", False), Outcome(), True)
    monkeypatch.setattr(Record, "add", add)
    assert [path.name[16:] for path in out.glob("images/*")] == ["-R-1.png"]
    assert run(tmp_path / "in", "films=always")[0]["n_made"] == 2
    assert {f"images/{path.name}" for path in out.glob("images/*")} == set(knees_of(out)["path"])
