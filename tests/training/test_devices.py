"""How many devices there are, and what follows from it."""

from types import SimpleNamespace

import pytest
import torch

from koa_lightning.errors import InputError
from koa_lightning.training import devices


@pytest.fixture
def gpus(monkeypatch):
    def there(n):
        monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: n > 0, device_count=lambda: n))

    monkeypatch.setattr(devices, "cores", lambda: 2)
    return there


@pytest.mark.parametrize(
    ("n", "accelerator", "wanted", "found"),
    [
        (4, "gpu", -1, 4), (4, "auto", "auto", 4), (4, "gpu", [0, 3], 2), (4, "cpu", 2, 2), (0, "auto", 2, 2),
        (0, "cpu", "auto", 1), (0, "cpu", -1, 1), (1, "auto", 1, 1),
    ],
)  # fmt: skip
def test_the_devices_of_a_training_are_counted(n, accelerator, wanted, found, gpus):
    gpus(n)
    assert devices.count(accelerator, wanted) == found


@pytest.mark.parametrize(
    ("n", "accelerator", "wanted", "line"),
    [
        (2, "gpu", 3, "trainer.devices=3: there are 2 GPUs here; type trainer.devices=2"),
        (0, "cpu", 3, "trainer.devices=3: there are 2 cores here; type trainer.devices=2"),
        (2, "gpu", [0, 2], r"trainer.devices=\[0, 2\]: there are 2 GPUs here; name some of 0 to 1"),
        (2, "gpu", [1, 1], "name some of 0 to 1"),
        (0, "cpu", [0], "devices of a CPU have no numbers"),
        (2, "gpu", 0, "trainer.devices=0: a training needs at least one device"),
    ],
)
def test_more_devices_than_there_are_is_one_line(n, accelerator, wanted, line, gpus):
    gpus(n)
    with pytest.raises(InputError, match=line):
        devices.count(accelerator, wanted)


def test_several_tasks_of_slurm_are_refused_only_where_each_would_begin_processes():
    with pytest.raises(InputError, match="srun started this command 4 times; type --ntasks=1 --gres=gpu:4 instead"):
        devices.check_task(4, {"SLURM_STEP_NUM_TASKS": "4"})
    devices.check_task(1, {"SLURM_STEP_NUM_TASKS": "4"})
    devices.check_task(4, {"SLURM_STEP_NUM_TASKS": "1"})


def test_only_layers_that_rest_are_searched_for_in_every_step():
    assert devices.strategy(1, "ddp", True) == {"strategy": "auto"}
    for configured, rests, unused in (("auto", False, False), ("ddp", True, True)):
        made = devices.strategy(2, configured, rests)["strategy"]
        assert made._ddp_kwargs == {"find_unused_parameters": unused}
    with pytest.raises(InputError, match=r"trainer.strategy=fsdp: .* type auto"):
        devices.strategy(2, "fsdp", False)


def test_the_learning_rate_is_scaled_as_asked_and_said():
    assert [devices.scaled(0.1, 4, how) for how in ("none", "linear", "sqrt")] == pytest.approx([0.1, 0.4, 0.2])
    line = devices.words(4, 8, "sqrt", 0.1, 3)
    assert line == (
        "4 devices: 4 x 8 = 32 knees per step, learning rate 0.1 scaled (sqrt) to 0.2, 3 batch norms over all devices"
    )
    assert "learning rate 0.1, batch norms per device" in devices.words(4, 8, "none", 0.1, 0)
