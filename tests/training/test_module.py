import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn

from koa_lightning import losses
from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.writing import to_plain
from koa_lightning.errors import InputError
from koa_lightning.losses.corn import Corn
from koa_lightning.models.inference import grade_batches, grade_logits
from koa_lightning.models.net import NetSpec
from koa_lightning.models.plan import Plan
from koa_lightning.training import schedules
from koa_lightning.training.augmentation import FusedAugmentation
from koa_lightning.training.callbacks import History
from koa_lightning.training.ema import WarmEMA
from koa_lightning.training.mixup import Mix
from koa_lightning.training.resizing import Resize

CPU = torch.device("cpu")
PLAIN = NetSpec("test_efficientnet")


def history_of(trainer):
    return next(callback for callback in trainer.callbacks if isinstance(callback, History)).epochs


def same(a, b):
    """Compare nested containers bit by bit; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) or (a.isnan().any() and torch.equal(a.nan_to_num(), b.nan_to_num()))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


class Snapshots(Callback):
    """Keeps the folder of checkpoints as a run that is killed at the start of each epoch would leave it."""

    def __init__(self, folder, target):
        self.folder, self.target = folder, target

    def on_train_epoch_start(self, trainer, pl_module):
        copy_of = self.target / str(trainer.current_epoch)
        copy_of.mkdir(parents=True)
        for file in self.folder.glob("*.ckpt"):
            shutil.copy(file, copy_of)


SCHEDULERS = {
    "cosine": (schedules.warmup_cosine, "val/quadratic_kappa", "max"),
    "onecycle": (schedules.one_cycle, "val/quadratic_kappa", "max"),
    # a metric that gets worse and a high patience of none, so that the learning rate is cut twice
    "plateau": (lambda o, **k: schedules.plateau(o, **k, patience=0), "val/accuracy", "min"),
}
OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True),
}

QUICK = {("onecycle", "adamw"), ("plateau", "sgd")}  # each schedule and optimizer that keeps something at least once


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("scheduler", "optimizer"),
    [
        pytest.param(schedule, optimizer, marks=[] if (schedule, optimizer) in QUICK else [pytest.mark.slow])
        for schedule in SCHEDULERS
        for optimizer in OPTIMIZERS
    ],
)
def test_a_resumed_run_ends_bit_by_bit_as_one_that_was_not_killed(
    scheduler, optimizer, tmp_path, tiny_grader, tiny_trainer, tiny_data
):
    factory, monitor, mode = SCHEDULERS[scheduler]
    plan = Plan("bf16-hybrid" if scheduler == "cosine" else "fp32", True, "")

    def make(folder, *callbacks):
        module = tiny_grader(
            scheduler=factory, optimizer=OPTIMIZERS[optimizer], head_only_epochs=1, head_lr=2e-3, monitor=monitor,
            mode=mode, plan=plan,
        )  # fmt: skip
        stopping = EarlyStopping(monitor, mode=mode, patience=10, check_finite=False)
        trainer = tiny_trainer(
            folder, WarmEMA(0.9), stopping, *callbacks, monitor=monitor, mode=mode, precision=plan.lightning
        )
        return trainer, module

    whole, snapshots = tmp_path / "whole", tmp_path / "snapshots"
    trainer, module = make(whole, Snapshots(whole, snapshots))
    trainer.fit(module, tiny_data())
    history = history_of(trainer)
    last, best = (torch.load(whole / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert len(history) == 4
    if scheduler == "plateau":
        assert last["lr_schedulers"][0]["_last_lr"][0] < 1e-3
    for epoch in (0, 1, 3):
        folder = tmp_path / f"resumed_{epoch}"
        shutil.copytree(snapshots / str(epoch), folder)
        trainer, module = make(folder)
        torch.manual_seed(epoch + 100)  # another process would not be where the first one was
        trainer.fit(module, tiny_data(), ckpt_path=folder / "last.ckpt", weights_only=True)
        assert same(history_of(trainer), history), epoch
        again = torch.load(folder / "last.ckpt", weights_only=True)
        for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "callbacks"):
            assert same(again[key], last[key]), (epoch, key)
        assert (again["epoch"], again["global_step"]) == (last["epoch"], last["global_step"])
        assert same(torch.load(folder / "best.ckpt", weights_only=True)["state_dict"], best["state_dict"]), epoch


@pytest.mark.slow
def test_a_resumed_run_that_mixes_grows_and_thaws_ends_bit_by_bit_too(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    options = {
        "mix": Mix(mixup=1.0, cutmix=1.0, probability=0.8, until=0.75), "resize": Resize(0.5, 1.0, 0.5),
        "head_only_epochs": 1, "unfreeze_every": 1, "frozen_stages": 2, "layer_decay": 0.8,
        "scheduler": lambda o, **k: schedules.warmup_cosine(o, **k, final=0.1, tail=0.3),
    }  # fmt: skip
    whole, snapshots = tmp_path / "whole", tmp_path / "snapshots"
    trainer = tiny_trainer(whole, WarmEMA(0.9), Snapshots(whole, snapshots))
    trainer.fit(tiny_grader(**options), tiny_data())
    history, last = history_of(trainer), torch.load(whole / "last.ckpt", weights_only=True)
    for epoch in (1, 2):  # before each of them another stage thaws
        folder = shutil.copytree(snapshots / str(epoch), tmp_path / f"resumed_{epoch}")
        trainer = tiny_trainer(folder, WarmEMA(0.9))
        torch.manual_seed(epoch + 100)
        trainer.fit(tiny_grader(**options), tiny_data(), ckpt_path=folder / "last.ckpt", weights_only=True)
        assert same(history_of(trainer), history), epoch
        again = torch.load(folder / "last.ckpt", weights_only=True)
        for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            assert same(again[key], last[key]), (epoch, key)


def test_sizes_and_shares_follow_the_epochs(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    seen = []

    class Look(Mix):
        def forward(self, image, progress=0.0):
            mixed = super().forward(image, progress)
            seen.append((image.shape[-1], mixed.share < 1))
            return mixed

    module = tiny_grader(mix=Look(mixup=1.0, until=0.5), resize=Resize(0.5, 1.0, 0.5))
    tiny_trainer(tmp_path, max_epochs=4, limit_train_batches=1, limit_val_batches=1).fit(module, tiny_data())
    assert seen == [(16, True), (32, True), (32, False), (32, False)]


def test_stages_that_timm_does_not_know_cannot_rest(tiny_grader, monkeypatch):
    monkeypatch.setattr("koa_lightning.training.module.Stages", lambda net: SimpleNamespace(known=False))
    for option in ({"frozen_stages": 1}, {"unfreeze_every": 1}, {"layer_decay": 0.9}):
        with pytest.raises(InputError, match="test_efficientnet: timm does not know its stages; omit optimizer"):
            tiny_grader(**option)


def test_more_epochs_than_planned_can_follow(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    tiny_trainer(tmp_path, max_epochs=1).fit(tiny_grader(total_steps=5), tiny_data())
    trainer = tiny_trainer(tmp_path, max_epochs=3)
    trainer.fit(tiny_grader(total_steps=15), tiny_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert [row["epoch"] for row in history_of(trainer)] == [0, 1, 2]


def test_one_seed_gives_one_run(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    def run(seed, name):
        trainer, module = tiny_trainer(tmp_path / name, max_epochs=2), tiny_grader(seed=seed)
        torch.manual_seed(ord(name))
        trainer.fit(module, tiny_data(seed=seed))
        return history_of(trainer), module.net.state_dict()

    first, again, other = run(1, "a"), run(1, "b"), run(2, "c")
    assert same(first, again)
    assert not same(first[0], other[0])


@pytest.mark.slow
def test_it_learns_a_handful_of_knees_by_heart(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    module = tiny_grader(PLAIN, augment=FusedAugmentation({}), lr=5e-3, total_steps=60)
    data = tiny_data(n_train=10, batch_size=10)
    data.datasets["val"] = data.datasets["train"]
    trainer = tiny_trainer(tmp_path, max_epochs=60, check_val_every_n_epoch=60)
    trainer.fit(module, data)
    assert history_of(trainer)[-1]["val/quadratic_kappa"] == 1
    assert history_of(trainer)[-1]["train/loss"] < 0.1


class Watch(Callback):
    """Keeps the network's state after each epoch."""

    def __init__(self):
        self.states = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.net.state_dict()))

    on_train_end = on_train_epoch_start


def test_the_backbone_rests_and_is_released(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    watch, module = Watch(), tiny_grader(head_only_epochs=2, head_lr=1e-2)
    head = {name for name, p in module.net.named_parameters() if any(p is h for h in module.net.head_parameters())}
    assert head == {"net.classifier.weight", "net.classifier.bias"}
    tiny_trainer(tmp_path, watch, max_epochs=3).fit(module, tiny_data())
    before, _, rested, released = watch.states
    moved = {key for key in before if not torch.equal(before[key], rested[key])}
    assert moved == head
    moved = {key for key in before if not torch.equal(rested[key], released[key])}
    assert moved == set(before)  # batch statistics too


def test_parameter_groups(tiny_grader):
    module = tiny_grader(lr=1e-3, head_lr=1e-2, weight_decay=0.3)
    module.scheduler_factory = lambda optimizer, **_: optimizer
    groups = module.configure_optimizers()["optimizer"].param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(module.net.parameters()))
    for name, parameter in module.net.named_parameters():
        bare = name.endswith("bias") or "bn" in name
        assert found[id(parameter)] == (1e-2 if "classifier" in name else 1e-3, 0.0 if bare else 0.3), name
    assert {group["lr"] for group in tiny_grader(lr=5e-4)._groups()} == {5e-4}  # no head_lr: the same


class Broken(nn.Module):
    link = "softmax"

    def forward(self, logits, grade):
        return logits.mean() * float("nan")


@pytest.mark.parametrize("every", [1, 2])
def test_a_loss_that_is_no_number_stops_the_run(every, tmp_path, tiny_grader, tiny_trainer, tiny_data):
    trainer = tiny_trainer(tmp_path, WarmEMA(), check_val_every_n_epoch=every)
    with pytest.raises(InputError, match=r"training loss became nan in epoch 0; lower optimizer\.lr"):
        trainer.fit(tiny_grader(loss=Broken()), tiny_data())


def test_the_validation_loss_is_the_weighted_mean_of_all_knees(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    module = tiny_grader()
    module.loss = losses.CrossEntropy(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    data, trainer = tiny_data(), tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data)
    index, logits = (torch.cat(each) for each in zip(*module.val_outputs, strict=True))
    grade = torch.as_tensor(data.datasets["val"].grades)[index]
    assert len(module.val_outputs) > 1
    expected = module.loss(logits, grade)
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], expected)


@pytest.mark.parametrize(("knees", "processes", "batch"), [(15, 2, 4), (16, 2, 4), (1, 2, 4), (9, 4, 1), (5, 3, 8)])
def test_no_knee_counts_twice_where_processes_share_them(knees, processes, batch, tiny_grader):
    counted = []
    for rank in range(processes):
        module, share = tiny_grader(), -(-knees // processes)
        given = [(rank + i * processes) % knees for i in range(share)]  # as Lightning's sampler fills up
        data = SimpleNamespace(dataset=range(knees))
        module._trainer = SimpleNamespace(world_size=processes, val_dataloaders=data, global_rank=rank)
        for start in range(0, share, batch):
            some = torch.tensor(given[start : start + batch])
            kept = some[module._once(len(some))]
            module.val_outputs.append((kept, kept))
            counted += kept.tolist()
    assert sorted(counted) == list(range(knees))


def test_an_unknown_monitor_is_named_before_the_training(tiny_grader):
    with pytest.raises(InputError, match="monitor=val/kappa: no such metric; did you mean 'val/quadratic_kappa'"):
        tiny_grader(monitor="val/kappa")
    assert tiny_grader(monitor="val/loss", mode="min").monitor == "val/loss"


@pytest.mark.sample(1)
@pytest.mark.parametrize("ema", [False, True])
def test_the_best_checkpoint_grades_as_its_validation_did(ema, tmp_path, tiny_grader, tiny_trainer, tiny_data):
    kept = []

    class Keep(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            kept.append(torch.cat([logits for _, logits in pl_module.val_outputs]))

    module, data = tiny_grader(plan=Plan("bf16-hybrid", True, "")), tiny_data()
    trainer = tiny_trainer(tmp_path, *([WarmEMA(0.9)] if ema else []), Keep(), max_epochs=3, precision="bf16-mixed")
    trainer.fit(module, data)
    best = read(tmp_path / "best.ckpt")
    logits = torch.cat(list(grade_batches(best.network(), data.val_dataloader(), CPU)))
    assert torch.allclose(logits, kept[best.epoch], atol=1e-5)
    assert not torch.allclose(logits, kept[(best.epoch + 1) % 3], atol=1e-5)
    rows = torch.cat([index for index, _ in module.val_outputs])
    assert rows.tolist() == list(range(10))


def test_forward_is_what_predict_does(tiny_grader):
    module = tiny_grader().eval()
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(module(image), grade_logits(module.net, image))


def test_corn_has_four_logits(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    module = tiny_grader(NetSpec("test_efficientnet", link="corn"), loss=Corn())
    tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=1).fit(module, tiny_data())
    assert module.val_outputs[0][1].shape == (8, 4)


def test_the_record_is_in_the_checkpoint(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    module = tiny_grader()
    tiny_trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(module, tiny_data())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["koa_lightning"] == to_plain(module.record)
    assert read(tmp_path / "last.ckpt").record == module.record


@pytest.mark.parametrize(("algorithm", "most"), [("norm", 1.0), ("value", 3**0.5), (None, 1.0)])
def test_gradients_are_clipped_beside_a_fused_optimizer(algorithm, most, tiny_grader):
    module = tiny_grader()
    weight = next(parameter for parameter in module.parameters() if parameter.numel() >= 3)
    weight.grad = torch.zeros_like(weight)
    weight.grad.view(-1)[:3] = torch.tensor([-9.0, 9.0, 9.0])
    optimizer = torch.optim.AdamW([weight], fused=True)
    module.configure_gradient_clipping(optimizer, None, algorithm)
    assert weight.grad.norm() == pytest.approx(9 * 3**0.5)
    module.configure_gradient_clipping(optimizer, 1.0, algorithm)
    assert weight.grad.norm() == pytest.approx(most, abs=1e-5)
