import errno
import mmap
import os
import tempfile

import numpy as np
import pytest

from koa_lightning.data.mapped import fetch, scratch


@pytest.fixture
def asked(monkeypatch):
    """The stretches of mapped files that were asked for, as first byte and length."""
    stretches = []

    class Recorded(mmap.mmap):
        def madvise(self, option, start, length):
            assert option == mmap.MADV_WILLNEED
            stretches.append((start, length))
            super().madvise(option, start, length)

    monkeypatch.setattr(mmap, "mmap", Recorded)
    return stretches


def test_the_pages_of_the_rows_are_asked_for_and_no_others(asked, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (50, 70, 70), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    rows = np.array([49, 0, 7])
    found = fetch(mapped, rows)
    assert np.array_equal(found, images[rows]) and type(found) is np.ndarray
    whole = (tmp_path / "a.npy").read_bytes()
    assert len(asked) == 3
    for row, (start, length) in zip(rows, asked, strict=True):
        assert start % mmap.PAGESIZE == 0 and length < images[0].nbytes + mmap.PAGESIZE
        assert whole[start : start + length].endswith(images[row].tobytes())


def test_an_array_in_memory_and_a_part_of_a_mapped_one_are_just_read(asked, tmp_path):
    images = np.arange(60, dtype=np.uint8).reshape(15, 2, 2)
    np.save(tmp_path / "a.npy", images)
    part = np.load(tmp_path / "a.npy", mmap_mode="r")[3:]
    rows = np.array([5, 1])
    assert np.array_equal(fetch(images, rows), images[rows])
    assert np.array_equal(fetch(part, rows), images[3:][rows])
    assert asked == []


def test_scratch_space_holds_what_is_written_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = scratch((5, 3), np.float16)
    array[2] = [1, 2, 3]
    assert array.dtype == np.float16
    assert array.sum() == 6
    assert list(tmp_path.iterdir()) == []


def test_scratch_space_without_elements():
    assert scratch((0, 3), np.float32).shape == (0, 3)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve a file's space")
def test_a_disk_without_room_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        scratch((10, 10), np.uint8)
    assert caught.value.filename == str(tmp_path)
