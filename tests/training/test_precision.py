import copy
import json
import multiprocessing
import re

import pytest
import torch

from koa_lightning.models import plan
from koa_lightning.models.net import NetSpec, build
from koa_lightning.models.plan import Plan
from koa_lightning.training import precision as speed
from koa_lightning.training.precision import choose


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build(NetSpec("test_efficientnet"))


def ask(net, memory, **options):
    defaults = {
        "name": "tiny", "image_size": 32, "batch_size": 2, "precision": "auto", "channels_last": True, "cuda": False,
    }  # fmt: skip
    return choose(net, memory=memory, **{**defaults, **options})


@pytest.fixture
def bf16_cpu(monkeypatch):
    """Any CPU can compute in bf16, if slowly."""
    monkeypatch.setattr(speed, "cpu_has_bf16", lambda: True)


def test_what_is_typed_is_taken(net, tmp_path):
    for precision in ("fp32", "bf16", "bf16-hybrid", "fp16"):
        assert ask(net, tmp_path, precision=precision) == Plan(precision, True, "as configured")
    assert not list(tmp_path.iterdir())


def test_without_bf16_there_is_nothing_to_measure(net, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "cpu_has_bf16", lambda: False)
    assert ask(net, tmp_path) == Plan("fp32", True, "CPU without bf16")


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_not_measured(has, net, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has)
    assert ask(net, tmp_path, cuda=True).precision == ("bf16" if has else "fp32")


def test_the_fastest_wins_and_is_remembered(net, tmp_path, monkeypatch, bf16_cpu):
    seconds, asked = {"fp32": 0.5, "bf16": 0.25, "bf16-hybrid": 0.125}, []

    def measure(net, plans, image_size, batch_size):
        asked.extend(plan.precision for plan in plans)
        return dict(seconds)

    monkeypatch.setattr(speed, "_seconds_a_step", measure)
    monkeypatch.setattr(speed, "load", lambda: "load 0.3 on 2 cores")
    reason = "fp32 4.0 img/s, bf16 8.0 img/s, bf16-hybrid 16.0 img/s (load 0.3 on 2 cores)"
    assert ask(net, tmp_path) == Plan("bf16-hybrid", True, reason)
    seconds["fp32"] = 0.01
    assert ask(net, tmp_path) == Plan("bf16-hybrid", True, f"remembered: {reason}")
    assert asked == ["fp32", "bf16", "bf16-hybrid"]
    for other in ({"name": "x"}, {"image_size": 64}, {"batch_size": 4}, {"channels_last": False}):
        assert ask(net, tmp_path, **other).precision == "fp32", other
    assert len(json.loads((tmp_path / "speed.json").read_text())) == 5


@pytest.fixture
def busy(net, tmp_path, monkeypatch, bf16_cpu):
    """Measured beside other work: 16 images a second, hybrid; a later measurement says 40, bf16."""
    answers = [{"fp32": 0.25, "bf16": 0.25, "bf16-hybrid": 0.125}, {"fp32": 0.1, "bf16": 0.05, "bf16-hybrid": 0.06}]
    monkeypatch.setattr(speed, "_seconds_a_step", lambda *_: answers.pop(0))
    assert ask(net, tmp_path, quiet=True).precision == "bf16-hybrid"
    key = speed.key_of("tiny", 32, 2, True)
    return lambda has, precision="bf16-hybrid": speed.heard(tmp_path / speed.FILE, key, precision, has)


@pytest.mark.parametrize("has", [30.0, 24.1, 10.0])
def test_a_choice_that_training_contradicts_is_measured_anew_and_that_is_said(has, busy, net, tmp_path, capsys):
    line = busy(has)
    assert line.startswith(f"training in bf16-hybrid runs at {has:.1f} img/s (load ")
    assert "bf16-hybrid 16.0 img/s (load " in line and line.endswith("; the next run measures again")
    capsys.readouterr()
    assert ask(net, tmp_path, quiet=True).precision == "bf16"
    said = capsys.readouterr().err
    assert said.startswith("precision: training in bf16-hybrid runs at ") and said.endswith("; measuring again\n")
    assert ask(net, tmp_path).reason.startswith("remembered: fp32 20.0 img/s, bf16 40.0 img/s")


@pytest.mark.parametrize(("has", "precision"), [(23.0, "bf16-hybrid"), (11.0, "bf16-hybrid"), (99.0, "fp32")])
def test_a_choice_that_training_bears_out_stays(has, precision, busy, net, tmp_path, capsys):
    assert busy(has, precision) == ""
    assert ask(net, tmp_path).reason.startswith("remembered: fp32 8.0 img/s")
    (entry,) = json.loads((tmp_path / "speed.json").read_text()).values()
    assert entry.get("trained") == (has if precision == "bf16-hybrid" else None)


def test_what_was_never_measured_is_not_contradicted(tmp_path):
    assert speed.heard(tmp_path / speed.FILE, "k", "fp32", 3.0) == ""
    assert not list(tmp_path.iterdir())


def test_the_best_step_counts(net, monkeypatch):
    clock, steps = [0.0], {"fp32": iter([9.0, 1.0, 8.0, 8.0]), "bf16": iter([9.0, 5.0, 4.0, 3.0])}
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def prepare(plan, net):
        net.register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + next(steps[plan.precision])))
        return net

    monkeypatch.setattr(Plan, "prepare", prepare)
    assert speed._seconds_a_step(net, [Plan(p, True, "") for p in steps], 32, 2) == pytest.approx(
        {"fp32": 1.0, "bf16": 3.0}
    )


def test_load():
    assert re.fullmatch(r"load \d+\.\d on \d+ cores", speed.load())


def test_the_ways_take_turns_and_the_near_ones_go_on(net, monkeypatch):
    clock, seconds, order = [0.0], {"fp32": 9.0, "bf16": 4.0, "bf16-hybrid": 3.9}, []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def prepare(plan, net):
        def hook(module, args, output):
            clock[0] += seconds[plan.precision]
            order.append(plan.precision)

        net.register_forward_hook(hook)
        return net

    monkeypatch.setattr(Plan, "prepare", prepare)
    plans = [Plan(p, True, "") for p in seconds]
    assert speed._seconds_a_step(net, plans, 32, 2) == pytest.approx(seconds)
    assert order == 4 * ["fp32", "bf16", "bf16-hybrid"] + 6 * ["bf16", "bf16-hybrid"]
    order.clear()
    seconds["bf16"] = 9.0
    speed._seconds_a_step(net, plans, 32, 2)
    assert order == 4 * ["fp32", "bf16", "bf16-hybrid"]


def test_measuring_leaves_the_network_and_the_random_state(net, tmp_path, bf16_cpu, capsys):
    state, types = copy.deepcopy(net.state_dict()), [type(m) for m in net.modules()]
    random = torch.get_rng_state()
    plan = ask(net, tmp_path)
    assert plan.precision in ("fp32", "bf16", "bf16-hybrid")
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert [type(m) for m in net.modules()] == types
    assert all(p.grad is None for p in net.parameters())
    assert "once per machine and model" in capsys.readouterr().err
    assert ask(net, tmp_path / "new", quiet=True).reason
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"%s": 3}', b'{"%s": {"precision": "fp64", "reason": ""}}', b'{"%s": {}}'],
)
def test_a_damaged_memory_is_measured_again(content, net, tmp_path, monkeypatch, bf16_cpu):
    monkeypatch.setattr(speed, "_seconds_a_step", lambda *_: {"fp32": 1.0, "bf16": 2.0})
    ask(net, tmp_path)
    file = tmp_path / "speed.json"
    (key,) = json.loads(file.read_text())
    file.write_bytes(content.replace(b"%s", json.dumps(key).strip('"').encode()))
    assert not ask(net, tmp_path).reason.startswith("remembered")
    assert ask(net, tmp_path).reason.startswith("remembered")


def test_a_memory_that_cannot_be_written_is_said(net, tmp_path, monkeypatch, bf16_cpu, capsys):
    monkeypatch.setattr(speed, "_seconds_a_step", lambda *_: {"fp32": 1.0})
    (tmp_path / "file").touch()
    assert ask(net, tmp_path / "file", quiet=True).precision == "fp32"
    assert "cannot be written" in capsys.readouterr().err


def write(folder, number):
    for i in range(20):
        speed._remember(
            folder / "speed.json", f"{number}-{i}", {"precision": "fp32", "channels_last": True, "reason": "test"}
        )


def test_runs_that_remember_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(speed._remembered(tmp_path / "speed.json")) == 60
    assert not list(tmp_path.glob("*.part"))


def test_the_processor_has_a_name():
    assert speed.cpu_name()
    assert isinstance(plan.cpu_has_bf16(), bool)
