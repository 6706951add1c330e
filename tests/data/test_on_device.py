"""Pictures that lie on the device; here that is the CPU, or pretended."""

import numpy as np
import pytest
import torch

from koa_lightning.data import on_device
from koa_lightning.data.dataset import KneeDataset

CPU = torch.device("cpu")


@pytest.fixture
def split():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4), dtype=np.uint8)
    return KneeDataset(images, np.array([8, 1, 5, 3]), np.array([0, 1, 2, 3], dtype=np.int8))


def test_a_batch_that_is_picked_is_the_batch_that_would_be_copied(split, monkeypatch, capsys):
    monkeypatch.setattr(on_device, "_PIECE", 3)
    found = on_device.held({"train": split}, CPU, "always", False)
    wanted, picked = split.__getitems__([2, 0, 3]), on_device.WithoutImages(split).__getitems__([2, 0, 3])
    assert set(picked) == {"grade", "index"}
    for name, value in on_device.picked(found["train"], picked).items():
        assert torch.equal(value, wanted[name]), name
    assert "data.on_device=always: 4 knees lie on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", ["auto", "never"])
def test_on_a_cpu_they_lie_there_only_if_asked(wanted, split):
    assert on_device.held({"train": split}, CPU, wanted, True) == {}


@pytest.mark.parametrize(("free", "fits"), [(127, False), (128, True)])
def test_they_take_up_to_half_of_the_free_memory_of_a_gpu(free, fits, split, monkeypatch, capsys):
    monkeypatch.setattr(on_device.torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(on_device, "_copied", lambda split, device: device)
    gpu = torch.device("cuda:1")
    found = on_device.held({"train": split}, gpu, "auto", True)  # 4 of 16 bytes
    assert found == ({"train": gpu} if fits else {})
    assert ("batches are copied" in capsys.readouterr().err) is not fits


@pytest.mark.slow
def test_training_from_them_has_the_same_numbers(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    losses = []
    for where in ("never", "always"):
        module, data, trainer = tiny_grader(), tiny_data(), tiny_trainer(tmp_path / where, max_epochs=2)
        data.on_device = where
        trainer.fit(module, data)
        losses.append([float(trainer.callback_metrics[name]) for name in ("train/loss", "val/loss")])
        assert data._held == {}
    assert losses[0] == losses[1]


def test_a_data_module_without_a_trainer_holds_nothing(tiny_data):
    data = tiny_data()
    assert isinstance(data, on_device.OnDevice) and data.trainer is None
    data.setup("fit")
    assert set(next(iter(data.val_dataloader()))) == {"image", "grade", "index"}
