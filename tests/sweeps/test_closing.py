import optuna
import pytest

from koa_lightning.sweeps import closing


def test_numbers_and_durations():
    assert (closing.number(None), closing.number(0.123456), closing.short("ce"), closing.short(0.00012345)) == (
        "", "0.1235", "ce", "0.000123",
    )  # fmt: skip
    assert [closing.duration(s) for s in (1.23, 125, 7380)] == ["1.2 s", "2 min 05 s", "2 h 03 min"]


@pytest.fixture
def study():
    found = optuna.create_study(direction="minimize")
    for key, value in {"koa_metrics": ["m"], "koa_space": {"a.b": "1,2"}, "koa_command": "again"}.items():
        found.set_user_attr(key, value)
    return found


def add(study, value=None, state="COMPLETE", steps=None, **attrs):
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState[state], value=value, params={"a.b": "1"}, intermediate_values=steps or {},
            distributions={"a.b": optuna.distributions.CategoricalDistribution(["1", "2"])},
            user_attrs={"overrides": ["a.b=1"], "seconds": 2.0, **attrs},
        )
    )  # fmt: skip


def test_a_sweep_that_is_not_done(study, capsys):
    closing.show(study, 3, "python p.py")
    assert "no trial is complete\nresume with: again\n" in capsys.readouterr().out
    add(study, 3.0, values=[2.0, 4.0], marks=["phantom data"])
    add(study, 1.0, values=[1.0, 1.0])
    add(study, None, "FAIL", error="no memory", error_kind="out_of_memory")
    add(study, None, "FAIL", interrupted=True)
    add(study, 5.0, "PRUNED", {0: 5.0})
    add(study, 5.0, "PRUNED", {0: 5.0, 1: 6.0})
    closing.show(study, 9, "python p.py")
    out = capsys.readouterr().out
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert rows == ["1", "0", "5", "4", "2"]  # of the pruned ones the one that got farthest
    assert "phantom data" in out
    assert "best: trial 1, m 1\n  python p.py a.b=1\n" in out
    assert "trial 2 failed, out_of_memory: no memory" in out
    assert "1 interrupted (repeated)" in " ".join(out.split())
    assert "1.414" in out
    assert out.endswith("resume with: again\n")
    assert closing.counts(study) == {"complete": 2, "pruned": 2, "failed": 1, "interrupted": 1}


def test_lines_of_trials(study):
    add(study, None, "PRUNED", {0: 5.0, 3: 2.0})
    assert closing.trial_line(study, study.trials[0], 4) == "trial 0 (1/4): pruned after step 3 at 2  [b=1]  2.0 s"
