import errno
from pathlib import Path

import pytest
import torch

from koa_lightning.checkpoint.files import write_whole


def test_a_checkpoint_is_written_into_a_folder_that_is_made(tmp_path):
    file = tmp_path / "a" / "b.ckpt"
    write_whole({"epoch": 3, "w": torch.ones(2)}, file)
    found = torch.load(file, weights_only=True)
    assert found["epoch"] == 3 and found["w"].tolist() == [1, 1]
    assert [path.name for path in file.parent.iterdir()] == ["b.ckpt"]


def test_a_full_disk_leaves_the_old_one_whole(tmp_path, monkeypatch):
    file = tmp_path / "b.ckpt"
    write_whole({"epoch": 1}, file)

    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="full") as caught:
        write_whole({"epoch": 2}, file)
    assert caught.value.filename == str(file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["b.ckpt"]
