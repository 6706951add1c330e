import sys

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Trainer
from omegaconf import OmegaConf

from koa_lightning.config.compose import choices_of, compose, plain, without_targets
from koa_lightning.data import build as data_build
from koa_lightning.errors import InputError
from koa_lightning.losses import build as losses_build
from koa_lightning.models import plan as computing
from koa_lightning.training import build
from koa_lightning.training import precision as speed


@pytest.fixture
def prepared(alone, tiny):
    """A config and its data, ready to train on."""

    def make(*overrides):
        cfg = tiny.config(*overrides)
        return cfg, data_build.data_module(cfg.data, cfg.seed, cfg.quiet).prepare(("train", "val"))

    return make


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        InputError, match=r"trainer.accelerator=gpu: torch finds no GPU here; type trainer=cpu, or auto"
    ):
        build.check_device("gpu")
    build.check_device("cpu")
    build.check_device("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    build.check_device("gpu")


@pytest.mark.parametrize("choice", choices_of("loss"))
def test_the_loss_of_a_checkpoint_is_that_of_the_run(choice, tiny):
    cfg = compose("train", [f"loss={choice}", "loss.class_weights=sqrt"])
    counts = [10, 5, 6, 3, 1]
    settings = without_targets(plain(cfg))["loss"]
    loss, rebuilt = losses_build.loss(cfg.loss, counts), losses_build.recorded_loss(cfg.loss._target_, settings, counts)
    logits = torch.randn(6, 4 if loss.link == "corn" else 5, generator=torch.Generator().manual_seed(0))
    grade = torch.tensor([0, 1, 2, 3, 4, 2])
    assert type(loss) is type(rebuilt)
    old = f"koa_lightning.losses.{type(loss).__name__}"  # as 0.1 wrote it
    assert type(losses_build.recorded_loss(old, settings, counts)) is type(loss)
    assert torch.equal(loss(logits, grade), rebuilt(logits, grade))


@pytest.mark.parametrize("target", [None, "os.system", "koa_lightning.losses.Unknown", ["os.system"]])
def test_code_of_a_checkpoint_s_loss_comes_from_the_configs_alone(target):
    assert losses_build.recorded_loss(target, {"command": "x"}, [1] * 5) is None


def test_class_weights_come_from_the_train_split(prepared):
    cfg, data = prepared("loss=weighted_ce")
    module, _ = build.grader(cfg, data, None)
    counts = torch.tensor(data.counts["train"], dtype=torch.float)
    assert torch.allclose(module.loss.class_weights, counts.sum() / (5 * counts))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ([], 14),
        (["trainer.limit_train_batches=3"], 6),
        (["trainer.limit_train_batches=0.5"], 6),
        (["trainer.limit_train_batches=1.0"], 14),
        (["trainer.accumulate_grad_batches=4"], 4),
        (["data.batch_size=100"], 2),
    ],
)
def test_steps_are_those_that_the_trainer_takes(overrides, steps, prepared, tmp_path):
    cfg, data = prepared(*overrides)
    assert build.steps(cfg, data) == steps
    module, _ = build.grader(cfg, data, None)
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=1, default_root_dir=tmp_path,
        limit_train_batches=cfg.trainer.limit_train_batches,
        accumulate_grad_batches=cfg.trainer.accumulate_grad_batches,
    )  # fmt: skip
    trainer.fit(module, data)
    assert trainer.global_step == steps


def test_fewer_knees_a_device_than_a_batch_are_refused(prepared):
    cfg, data = prepared("trainer.devices=2", "data.batch_size=100")
    with pytest.raises(InputError, match=r"data.batch_size=100: each of 2 devices has \d+ knees to train on"):
        build.steps(cfg, data, 2)


def test_what_a_checkpoint_carries(prepared):
    cfg, data = prepared("loss=corn")
    module, plan = build.grader(cfg, data, None)
    assert module.record.loss == "koa_lightning.losses.corn.Corn"
    assert module.record.net.link == module.net.spec.link == "corn"
    assert module.record.caveats == ("phantom data", "no pretrained weights")
    assert module.record.data.counts == data.counts
    assert set(data.counts) == {"train", "val"}
    assert "_target_" not in repr(module.record)
    assert (plan.precision, plan.reason) == ("fp32", "as configured")


@pytest.mark.parametrize(
    ("precision", "has", "slow"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_bf16_that_a_cpu_has_to_imitate_is_told_and_kept(precision, has, slow, prepared, monkeypatch, capsys):
    monkeypatch.setattr(computing, "cpu_has_bf16", lambda: has)
    cfg, data = prepared(f"trainer.precision={precision}")
    module, plan = build.grader(cfg, data, None)
    assert ("WARNING: this CPU has no bf16 and imitates it" in capsys.readouterr().err) == slow
    reason = "as configured, imitated by a CPU without bf16" if slow else "as configured"
    assert plan.reason == module.record.plan.reason == reason

    cfg.trainer.precision = "auto"  # a run that continues computes as it did, and says so once
    again = build.plan(cfg, module.net, module.record)
    assert ("imitates" in capsys.readouterr().err) == slow
    assert (again.precision, again.reason) == (precision, reason)
    monkeypatch.setattr(computing, "cpu_has_bf16", lambda: True)
    assert build.plan(cfg, module.net, module.record).reason == "as configured"  # on another CPU, that has it


@pytest.mark.parametrize(("precision", "fused"), [("fp32", True), ("fp16", False)])
def test_optimizers_are_fused_where_gradients_are_not_scaled(precision, fused, prepared):
    cfg, data = prepared(f"trainer.precision={precision}")
    module, _ = build.grader(cfg, data, None)
    assert {group["fused"] for group in module.configure_optimizers()["optimizer"].param_groups} == {fused}


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.factory.betas=[2,3]", "optimizer, scheduler: Invalid beta parameter"),
        ("+optimizer.factory.speed=2", "optimizer.factory: .*unexpected keyword argument 'speed'"),
        ("scheduler.warmup=7", r"scheduler.warmup=7: must be from 0 to 1"),
        ("+scheduler.heat=7", "scheduler: .*unexpected keyword argument 'heat'"),
        ("optimizer.frozen_stages=99", r"^optimizer.frozen_stages=99: test_efficientnet has \d stages before its head"),
        ("model.name=resnet81", "model.name=resnet81: timm has no such model"),
        ("monitor=val/kappa", "monitor=val/kappa"),
        ("augment.ops.affine.scale=[2]", "augment.ops.affine"),
    ],
)
def test_wrong_settings_are_found_before_a_run_begins(override, line, prepared):
    cfg, data = prepared(override)
    with pytest.raises(Exception, match=line) as caught:
        build.grader(cfg, data, None)
    assert isinstance(caught.value, InputError) or isinstance(caught.value.__cause__, InputError)


@pytest.fixture
def named(monkeypatch):
    """The name of a job with these overrides, of a sweep typed like that."""

    def name(typed, job):
        monkeypatch.setattr(sys, "argv", ["train", *typed])
        choices = {key: value for key, _, value in (item.partition("=") for item in job) if key in ("loss", "model")}
        mode = RunMode.MULTIRUN if "-m" in typed else RunMode.RUN
        HydraConfig.instance().cfg = OmegaConf.create(
            {"hydra": {"mode": mode, "runtime": {"choices": {"loss": "ce", **choices}}, "overrides": {"task": job}}}
        )
        try:
            return build.run_name(compose("train", job))
        finally:
            HydraConfig.instance().cfg = None

    return name


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("typed", "job", "name"),
    [
        (["loss=focal"], ["loss=focal"], "effb3-focal phantom 224px 5ep"),
        (["seed=1", "name=mine"], ["seed=1", "name=mine"], "mine"),
        (["-m", "loss=ce,focal", "seed=1"], ["loss=focal", "seed=1"], "effb3-focal phantom 224px 5ep seed 1"),
        (["-m", "loss=ce,emd", "data.fold=0,1"], ["loss=emd", "data.fold=1"], "effb3-emd fold=1 phantom 224px 5ep"),
        (["-m", "seed=range(3)", "data.top=[0,1]"], ["seed=2", "data.top=[0,1]"], "effb3-ce seed=2 phantom 224px 5ep"),
        (["seed=1,2", "-m"], ["seed=2"], "effb3-ce seed=2 phantom 224px 5ep"),
        (["-m", "name=mine", "loss=ce,emd"], ["name=mine", "loss=emd"], "mine loss=emd"),
        (["-m", "experiment=demo", "model=effb0,effb3"], ["experiment=demo", "model=effb0"], "demo model=effb0"),
    ],
)  # fmt: skip
def test_run_names(typed, job, name, named):
    assert named(typed, job) == name


@pytest.mark.slow
def test_a_run_that_a_program_starts_has_a_name_too(tiny):
    names = [
        build.run_name(tiny.config("loss=focal", *more))
        for more in ([], ["data.image_size=96"], ["trainer.max_epochs=77"], ["data.fraction=0.5"], ["seed=7"])
    ]
    assert all(name.startswith("resnet18-focal ") for name in names)
    assert len(set(names)) == len(names)
    assert ["96px" in names[1], "77ep" in names[2], "50% of phantom" in names[3], "seed 7" in names[4]] == [True] * 4
    folds = ["data.folds=3", "data.fold=1"]
    assert "fold 1 of 3" in build.run_name(tiny.config(*folds))
    assert "fold" not in build.run_name(tiny.config(*folds), all_folds=True)
    assert build.run_name(tiny.config("name=mine")) == "mine"


@pytest.mark.parametrize(
    ("more", "watched"),
    [
        (["trainer.precision=auto"], True),
        (["trainer.precision=fp32"], False),
        (["trainer.precision=auto", "resize=progressive"], False),
        (["trainer.precision=auto", "optimizer.head_only_epochs=1"], False),
        (["trainer.precision=auto", "optimizer.frozen_stages=1"], False),
    ],
)
def test_the_speed_of_a_training_is_watched_where_its_steps_are_those_measured(more, watched, tiny, tmp_path, capsys):
    cfg = tiny.config(*more, f"data.cache_dir='{tmp_path}'")
    watch = build.speed_watch(cfg, speed.Plan("bf16", True, ""))
    assert (watch is not None) == watched
    if watch is None:
        return
    key = speed.key_of("test_efficientnet", 64, 8, True)
    entry = {"precision": "bf16", "channels_last": True, "reason": "bf16 5.7 img/s (load 9.0 on 2 cores)", "speed": 5.7}
    speed._remember(tmp_path / speed.FILE, key, entry)
    watch.heard(55.0)
    said = capsys.readouterr().err
    assert said.startswith("WARNING: training in bf16 runs at 55.0 img/s") and "5.7 img/s (load 9.0 on 2 cores)" in said


def test_a_teacher_s_probabilities_reach_the_knees_that_they_are_about(prepared, tmp_path):
    cfg, data = prepared()
    train, _ = data.rows_of(("train", "val"))
    sure = (
        0.9 * torch.eye(5)[torch.tensor(train["grade"].tolist())] + 0.02
    )  # the graded label, softened: easy to recognise
    columns = {f"p{grade}": sure[:, grade].numpy() for grade in range(5)}
    train.assign(**columns).sample(frac=1, random_state=0).to_csv(tmp_path / "oof.csv", index=False)
    cfg, data = prepared("teacher=table", f"teacher.table={tmp_path}/oof.csv", "teacher.weight=1.0")
    module, _ = build.grader(cfg, data, None)
    for batch in data.train_dataloader():
        labels = module.teacher.labels[batch["index"]]
        assert torch.equal(labels.argmax(1), batch["grade"])
        logits = torch.zeros(len(labels), 5, requires_grad=True)
        mixed = module.mix(torch.zeros(len(labels), 1, 2, 2))
        module.teacher(module.loss(logits, batch["grade"]), logits, batch["index"], mixed, "softmax").backward()
        torch.testing.assert_close(logits.grad, (0.2 - labels) / len(labels))
