from koa_lightning.sweeps.note import note
from koa_lightning.sweeps.results import read


def test_a_sweep_links_its_best_trials(made_study):
    sweep = read(made_study(30))
    text = note(sweep, "7")
    best = sweep.front[0]
    assert text.startswith(f"**Best: [trial {best}](#/experiments/7/runs/{best:032x})** (17 complete, 7 pruned")
    rows = [line for line in text.splitlines() if line.startswith("| [trial ")]
    assert [int(row.split()[2].split("]")[0]) for row in rows] == sweep.ranking[:5]
    head = next(line for line in text.splitlines() if line.startswith("| trial "))
    assert head == "| trial | val/quadratic_kappa | model | loss | lr | degrees | gamma |"
    assert len({line.count("|") for line in [head, *rows]}) == 1
    assert "phantom data: not a result" in text
    assert text.endswith("research use only, not a medical device")


def test_a_sweep_without_a_complete_trial_says_so(made_study):
    study = made_study(3)
    pruned = read(study)
    nothing = made_study(0)
    nothing.add_trial(study.trials[2])
    assert note(read(nothing), "7").startswith("None yet (1 pruned)")
    assert pruned.front


def test_without_tracking_there_is_no_link(made_study):
    nothing = made_study(0)
    (trial,) = made_study(1).trials
    trial.user_attrs["run_ids"] = []
    nothing.add_trial(trial)
    assert note(read(nothing), "").startswith("**Best: trial 0** (1 complete)")
