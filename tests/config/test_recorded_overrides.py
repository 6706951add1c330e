"""What a run folder or a store brings along runs no code of its own."""

import pytest
import yaml

from koa_lightning.config import recorded_overrides, run_folder
from koa_lightning.config.compose import choices_of, compose
from koa_lightning.errors import InputError

CODE = [
    "+callbacks.x={_target_: pathlib.Path.touch, _args_: [PROOF]}",
    "+callbacks.x={a: [{b: {_target_: os.system, command: id}}]}",
    "+callbacks.x={_target_: [os.system]}",
    "+callbacks.x={_target_: {_target_: os.system}}",
    "+callbacks.x={_target_: '${seed}'}",
    "loss._target_=os.system",
    "++loss._target_=os.system",
    "~loss._target_=os.system",
    "optimizer.factory._target_=pandas.read_pickle",
    "+callbacks.ema._args_=[1]",
    "+callbacks.ema={_recursive_: true}",
    "+callbacks.x=str({_target_: os.system})",
    "sweep.pruner={_target_: os.system}",
]
HYDRA = [
    "hydra/launcher=x",
    "+hydra/launcher=x",
    "hydra.searchpath=[pkg://x]",
    "hydra.run.dir=/x",
    "++hydra.job.env_set.PATH=/x",
    "~hydra.job",
    "data@hydra.job=phantom",
    "+experiment@hydra=demo",
    "--config-dir=/x",
    "--config-dir",
    "-m",
    "-cd",
]
WORKED_OUT = [
    "name=${oc.env:HOME}",
    "name='${oc.env:HOME}'",
    "name=a${oc.decode:${name}}",
    "seed=$\\{oc.env:HOME\\}",
    "+callbacks.x={a: ${oc.env:HOME}}",
    "+callbacks.x=[a, ['${mine:1}']]",
    "data.root=${oc.env:HOME}",
    "out=${hydra:runtime.cwd}",
    "loss=../../x",
    "loss=/x/y",
    "experiment=[demo,../../x]",
    "loss=ce,focal",
    "a={",
]
FINE = [
    "model=resnet18",
    "loss=focal",
    "loss.gamma=3",
    "experiment=[demo,sweep]",
    "seed=1",
    "+trainer.fast_dev_run=true",
    "~callbacks.ema",
    "callbacks.ema=null",
    "callbacks.early_stopping.monitor=${monitor}",
    "optimizer.factory._target_=torch.optim.SGD",
    "+callbacks.x={_target_: koa_lightning.training.ema.WarmEMA, decay: 0.9}",
    "data.root='/a b/it\\'s, [1]'",
    "data.root=/x y",
    "name='{_target_: os.system}'",
    "tracking.tags={site: berlin}",
    "sweep/pruner=median",
    "model.name=resnet18.a1_in1k",
    "explain=gradcam++",
]


@pytest.mark.parametrize("item", [*CODE, *HYDRA, *WORKED_OUT])
def test_what_a_file_may_not_bring_along(item):
    with pytest.raises(InputError, match=r"^run: its override .*; if you trust it, type it again") as error:
        recorded_overrides.check(["seed=1", item], "run")
    assert "\n" not in str(error.value)
    assert " ".join(item.split())[:20] in str(error.value)


@pytest.mark.parametrize("item", [*CODE, *HYDRA])
def test_what_is_typed_again_is_the_users_own(item):
    assert recorded_overrides.check([item], "run", [item]) == [item]


def test_a_target_that_is_typed_may_be_used_elsewhere():
    typed = ["callbacks.x._target_=mine.Callback", "+callbacks.y=[{_target_: mine.Other}]", "a={", "x=1,2"]
    old = ["+callbacks.z={_target_: mine.Other}", "callbacks.q._target_=mine.Callback"]
    assert recorded_overrides.check(old, "run", typed) == old
    with pytest.raises(InputError, match=r"names code \(mine\.Third\)"):
        recorded_overrides.check(["+callbacks.z={_target_: mine.Third}"], "run", typed)


@pytest.mark.parametrize("item", FINE)
def test_what_may_be_used_again(item):
    assert recorded_overrides.check([item], "run") == [item]


def test_every_target_of_the_installed_configs_is_known():
    targets = recorded_overrides.installed_targets()
    assert {compose("train", [f"loss={name}"]).loss._target_ for name in choices_of("loss")} < targets
    assert {"torch.optim.SGD", "lightning.Trainer", "optuna.pruners.HyperbandPruner"} < targets


@pytest.fixture
def folder(tmp_path):
    """A run folder that says what a test wants."""

    def write(text):
        (tmp_path / "run/.hydra").mkdir(parents=True)
        (tmp_path / "run/checkpoints").mkdir()
        (tmp_path / "run/checkpoints/last.ckpt").touch()
        (tmp_path / "run/.hydra/overrides.yaml").write_text(text)
        return tmp_path / "run"

    return write


@pytest.mark.parametrize("item", [*CODE, *HYDRA, "name=${oc.env:HOME}"])
def test_a_run_folder_that_names_code_is_not_resumed(item, folder):
    run = folder(yaml.safe_dump(["seed=1", item]))
    with pytest.raises(InputError, match=r"overrides\.yaml: its override "):
        run_folder.with_old_overrides([f"ckpt={run}/checkpoints/last.ckpt"])


def test_of_a_run_folder_what_is_typed_anew_is_not_taken(folder):
    run = folder(yaml.safe_dump(["seed=1", CODE[0]]))
    line = run_folder.with_old_overrides(
        [f"ckpt={run}/checkpoints/last.ckpt", "+callbacks.x={_target_: mine.Callback}"]
    )
    assert line[:2] == ["seed=1", "+callbacks.x={_target_: mine.Callback}"]


@pytest.mark.parametrize(
    "text", ["a: 1", "[1, 2]", "- {a: b}", "text", "[", "!!python/object/apply:os.system [id]", "- !!binary aGk="]
)
def test_a_record_that_is_no_list_of_overrides(text, folder):
    run = folder(text)
    with pytest.raises(InputError, match=r"overrides\.yaml: (is not a list of overrides|cannot be read)"):
        run_folder.with_old_overrides([f"ckpt={run}/checkpoints/last.ckpt"])
    with pytest.raises(InputError, match="overrides"):
        run_folder.recorded(run)


def test_the_command_line_says_it_in_one_line(folder, launch, alone, tmp_path):

    run = folder(yaml.safe_dump([CODE[0].replace("PROOF", str(tmp_path / "proof"))]))
    ended = launch("train", f"ckpt={run}/checkpoints/last.ckpt")
    assert (ended.code, len(ended.err)) == (2, 1)
    assert "names code (pathlib.Path.touch)" in ended.err[0]
    assert not (tmp_path / "proof").exists()
