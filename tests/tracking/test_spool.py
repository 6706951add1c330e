import errno
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.errors import InputError
from koa_lightning.tracking import spool as spool_module
from koa_lightning.tracking.spool import Spool, summary

ENTRY = st.fixed_dictionaries(
    {"op": st.just("metrics"), "values": st.dictionaries(st.text(), st.floats(allow_nan=False))}
)


def numbered(*numbers):
    return [{"op": "metrics", "values": {"loss": n}, "step": n, "time": 1} for n in numbers]


@settings(max_examples=30)  # each writes a file
@given(batches=st.lists(st.lists(ENTRY, min_size=1), min_size=1, max_size=4))
def test_entries_come_back_in_order(batches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for batch in batches:
        Spool(folder, "id", "uri").append(batch)
    loaded = Spool.load(folder / "unsent.jsonl")
    assert loaded.read() == [entry for batch in batches for entry in batch]
    assert (loaded.run_id, loaded.uri) == ("id", "uri")


def test_file_lives_only_while_it_holds_entries(tmp_path):
    spool = Spool(tmp_path / "new folder", "id", "uri")
    assert not spool
    assert spool.read() == []
    spool.append(numbered(1, 2))
    spool.replace(numbered(2))
    assert spool.read() == numbered(2)
    spool.replace([])
    assert not spool


def test_line_that_a_crash_left_costs_only_itself(tmp_path, caplog):
    spool = Spool(tmp_path, "id", "uri")
    spool.append(numbered(1))
    with spool.path.open("a") as file:
        file.write('{"op": "met')
    spool.append(numbered(2))
    assert spool.read() == numbered(1, 2)
    assert "line 3" in caplog.text


def test_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    spool = Spool(tmp_path, "id", "uri")
    spool.append(numbered(1))
    before = spool.path.read_bytes()

    def half(path, text, mode):
        with path.open("a") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "_write", half)
    with pytest.raises(OSError, match="No space"):
        spool.append(numbered(2))
    assert spool.path.read_bytes() == before


def test_only_the_user_can_read_it(tmp_path):
    spool = Spool(tmp_path, "id", "http://me:secret@host")
    spool.append(numbered(1))
    assert os.name == "nt" or stat.S_IMODE(spool.path.stat().st_mode) == 0o600


def test_any_other_file_is_refused(tmp_path):
    (tmp_path / "unsent.jsonl").write_text('{"op": "metrics"}\n')
    with pytest.raises(InputError, match="names no run"):
        Spool.load(tmp_path / "unsent.jsonl")


def test_summary_counts_and_names_artifacts():
    entries = [*numbered(1, 2), {"op": "artifact", "local": "/x/best.ckpt", "folder": "checkpoints"}]
    assert summary(entries) == ["2 metrics", "artifact checkpoints/best.ckpt"]
    assert summary([{"op": "artifact", "local": "/x/a.png", "folder": None}]) == ["artifact a.png"]
