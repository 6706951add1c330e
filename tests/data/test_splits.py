from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data import manifest as mf
from koa_lightning.data import splits as splitting
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.errors import InputError

SPLITS = {"train", "val", "test"}
GRADES_OF_A_PATIENT = st.lists(st.integers(0, 4), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**32 - 1)


def manifest(patients):
    """A manifest of patients, each a list of its knees' grades."""
    rows = [(f"P{i}", grade) for i, grades in enumerate(patients) for grade in grades]
    frame = pd.DataFrame(rows, columns=["patient", "grade"])
    return mf.make(frame.assign(path=[f"/here/{i:06d}.png" for i in range(len(frame))]), "here")


def stratified(frame, seed=0, val=0.15, test=0.15):
    return splitting.stratified(frame, val_fraction=val, test_fraction=test, seed=seed)


def assign(frame, **options):
    usual = {"split": "stratified", "val_fraction": 0.15, "test_fraction": 0.15, "n_folds": None, "fold": 0, "seed": 0}
    return splitting.assign(frame, **usual | options, where="here")


def population(n, seed=0):
    return mf.make(phantom_manifest(n, seed), "phantoms")


@given(st.lists(GRADES_OF_A_PATIENT, min_size=3, max_size=60), SEEDS)
@settings(max_examples=60, deadline=None)
def test_no_patient_is_in_two_splits_and_every_row_is_in_one(patients, seed):
    frame = manifest(patients)
    splits = stratified(frame, seed)
    assert splits.index.equals(frame.index)
    assert set(splits) <= SPLITS
    assert splits.groupby(frame["patient"]).nunique().eq(1).all()
    mf.check_patients(frame.assign(split=splits), "here")


@given(st.lists(GRADES_OF_A_PATIENT, min_size=3, max_size=30), SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_does_not_matter(patients, seed, random):
    frame = manifest(patients)
    order = list(frame.index)
    random.shuffle(order)
    shuffled = frame.loc[order]
    assert stratified(shuffled, seed).sort_index().equals(stratified(frame, seed))
    one, other = (splitting.folds(f, n=3, fold=1, seed=seed) for f in (shuffled, frame))
    assert one.sort_index().equals(other)


def test_the_same_seed_gives_the_same_splits_and_another_seed_others():
    frame = population(300)
    assert stratified(frame, 5).equals(stratified(frame.copy(), 5))
    assert (stratified(frame, 5) != stratified(frame, 6)).mean() > 0.2


def test_the_splits_of_a_seed_stay_the_same_from_version_to_version():
    splits = stratified(population(12), 0)[::2]  # else nobody could resume an older run
    assert " ".join(splits) == "train train val train train val train test test train train train"


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_every_split_has_nearly_the_grades_of_the_whole(seed):
    frame = population(800, seed=1)
    splits = stratified(frame, seed)
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        mine = frame["grade"][splits == split]
        assert abs(len(mine) / len(frame) - share) < 0.01
        difference = np.bincount(mine, minlength=5) / len(mine) - np.bincount(frame["grade"], minlength=5) / len(frame)
        assert np.abs(difference).max() < 0.025


def worst_gap(frame, splits, shares, kinds):
    """The largest difference, in patients of a kind, between a split and its share of them."""
    patients = pd.DataFrame({"patient": frame["patient"], "part": splits}).drop_duplicates()
    patients["kind"] = patients["patient"].map(kinds)
    counts = pd.crosstab(patients["kind"], patients["part"]).reindex(columns=list(shares), fill_value=0)
    expected = np.outer(counts.sum(axis=1), list(shares.values()))
    return np.abs(counts.to_numpy() - expected).max()


def grades_of_patients(frame):
    return frame.groupby("patient")["grade"].agg(lambda grades: "".join(map(str, sorted(grades))))


@given(st.lists(GRADES_OF_A_PATIENT, min_size=3, max_size=120), st.floats(0.05, 0.4), st.floats(0.05, 0.4), SEEDS)
@settings(max_examples=60, deadline=None)
def test_patients_of_the_same_grades_are_shared_out(patients, val, test, seed):
    frame = manifest(patients)
    kinds = grades_of_patients(frame)
    splits, shares = stratified(frame, seed, val, test), {"train": 1 - val - test, "val": val, "test": test}
    severe = kinds.str.contains("4")
    assert worst_gap(frame, splits, shares, kinds) < 2
    assert worst_gap(frame, splits, shares, severe) < 2
    for split, share in shares.items():
        if share * severe.sum() >= 1:  # there are enough of them
            assert (frame["grade"][splits == split] == 4).any()


@given(st.lists(GRADES_OF_A_PATIENT, min_size=7, max_size=80), st.integers(2, 7), SEEDS)
@settings(max_examples=40, deadline=None)
def test_patients_of_the_same_grades_are_shared_out_over_folds(patients, n, seed):
    frame = manifest(patients)
    kinds = grades_of_patients(frame)
    val = {fold: splitting.folds(frame, n=n, fold=fold, seed=seed) == "val" for fold in range(n)}
    number = pd.Series(np.argmax([rows.to_numpy() for rows in val.values()], axis=0), index=frame.index)
    shares = dict.fromkeys(range(n), 1 / n)
    severe = kinds.str.contains("4")
    assert worst_gap(frame, number, shares, kinds) < 1
    assert worst_gap(frame, number, shares, severe) < 1
    if severe.sum() >= n:
        assert all((frame["grade"][rows] == 4).any() for rows in val.values())


@given(st.lists(GRADES_OF_A_PATIENT, min_size=12, max_size=60), st.sampled_from([None, 2, 5]), SEEDS)
@settings(max_examples=40, deadline=None)
def test_every_knee_is_in_one_split_with_folds_too(patients, n, seed):
    frame = manifest(patients)
    made = [assign(frame, n_folds=n, fold=fold, seed=seed) for fold in range(n or 1)]
    for rows in made:
        assert rows["path"].tolist() == frame["path"].tolist()
        assert set(rows["split"]) <= SPLITS
        mf.check_patients(rows, "here")
    test = made[0]["split"] == "test"
    assert all((rows["split"] == "test").equals(test) for rows in made)
    if n:
        assert sum((rows["split"] == "val").astype(int) for rows in made)[~test].eq(1).all()


@given(st.integers(14, 40), st.integers(0, 200), SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_rare_grade_is_in_every_split(n_severe, n_others, seed):
    frame = manifest([[4, 1]] * n_severe + [[0, 3]] * n_others)
    splits = stratified(frame, seed)
    severe = splits[frame["grade"] == 4].value_counts()
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(severe[split] - share * n_severe) < 2
    for fold in range(5):
        val = splitting.folds(frame, n=5, fold=fold, seed=seed) == "val"
        assert abs((frame["grade"][val] == 4).sum() - n_severe / 5) < 2


def test_no_share_means_no_such_split():
    frame = population(50)
    assert set(stratified(frame, test=0.0)) == {"train", "val"}
    assert set(stratified(frame, val=0.0)) == {"train", "test"}


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.2), (-0.1, 0.2), (0.2, -0.1)])
def test_impossible_shares_stop(val, test):
    with pytest.raises(InputError, match="leave no knees for training"):
        stratified(population(50), val=val, test=test)


@pytest.mark.parametrize(("n", "shown"), [(1, r"1 patient\(s\) cannot be split into 3"), (2, r"2 patient\(s\)")])
def test_too_few_patients_stop(n, shown):
    with pytest.raises(InputError, match=shown):
        stratified(manifest([[0, 1, 2, 3, 4]] * n))


@given(st.lists(GRADES_OF_A_PATIENT, min_size=7, max_size=40), st.integers(2, 7), SEEDS)
@settings(max_examples=40, deadline=None)
def test_folds_share_out_every_row_once(patients, n, seed):
    frame = manifest(patients)
    times = np.zeros(len(frame), dtype=int)
    sizes = []
    for fold in range(n):
        splits = splitting.folds(frame, n=n, fold=fold, seed=seed)
        assert set(splits) == {"train", "val"}
        assert splits.groupby(frame["patient"]).nunique().eq(1).all()
        times += (splits == "val").to_numpy()
        sizes.append(frame["patient"][splits == "val"].nunique())
    assert (times == 1).all()
    assert max(sizes) - min(sizes) <= 1


def test_folds_that_cannot_be_stop():
    frame = manifest([[0, 4]] * 4)
    with pytest.raises(InputError, match=r"here: 4 patient\(s\) are fewer than data.folds=5"):
        splitting.folds(frame, n=5, fold=0, seed=0, where="here")
    with pytest.raises(InputError, match=r"data.fold=3: with data.folds=3 it must be 0 to 2"):
        splitting.folds(frame, n=3, fold=3, seed=0)
    with pytest.raises(InputError, match=r"data.folds=1: give 2 or more"):
        splitting.folds(frame, n=1, fold=0, seed=0)


@given(st.integers(0, 400), st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6), SEEDS)
@settings(max_examples=60, deadline=None)
def test_every_beginning_of_the_dealing_has_its_shares(n, shares, seed):
    splits = splitting.deal(n, shares, seed)
    target = np.array(shares) / sum(shares)
    so_far = np.cumsum(np.eye(len(shares), dtype=int)[splits], axis=0)
    assert len(splits) == n
    assert (np.abs(so_far - target * np.arange(1, n + 1)[:, None]) < len(shares)).all()


def test_official_splits_are_kept():
    frame = population(20)
    frame["split"] = np.where(frame["patient"] < "P000010", "train", "test")
    frame.loc[frame["patient"] == "P000019", "split"] = "auto_test"
    assert assign(frame, split="official").equals(frame)


def test_stratified_makes_splits_anew_but_leaves_auto_test_alone():
    frame = population(40)
    frame["split"] = np.where(frame["patient"] < "P000030", "test", "auto_test")
    made = assign(frame)
    assert (made["split"][frame["split"] == "auto_test"] == "auto_test").all()
    own = frame["split"] == "test"
    assert made["split"][own].equals(stratified(frame[own]))
    assert frame["split"].isin(["test", "auto_test"]).all()  # the caller's manifest is left as it was


def test_a_source_without_splits_is_stratified_and_that_is_said(capsys):
    frame = population(20)
    assert assign(frame, split="official").equals(assign(frame))
    error = capsys.readouterr().err
    assert error.count("here: it has no splits of its own") == 1


def test_a_source_with_some_splits_stops():
    frame = population(20)
    frame.loc[3:, "split"] = "train"
    with pytest.raises(InputError, match=r"here: 3 knee\(s\) have no official split; type data.split=stratified"):
        assign(frame, split="official")


def test_auto_test_alone_needs_no_other_split():
    frame = population(3).assign(split="auto_test")
    assert assign(frame, split="official").equals(frame)
    assert assign(frame).equals(frame)


@pytest.mark.parametrize("split", ["official", "stratified"])
def test_folds_leave_the_test_split_as_it_is(split):
    frame = population(60)
    frame["split"] = np.where(frame["patient"] < "P000045", "train", "test")
    whole = assign(frame, split=split)
    for fold in range(3):
        made = assign(frame, split=split, n_folds=3, fold=fold)
        assert made["split"].eq("test").equals(whole["split"].eq("test"))
        mf.check_patients(made, "here")


@pytest.mark.parametrize("split", ["official", "stratified"])
def test_folds_of_the_train_split_alone_have_no_knee_of_the_validation_split(split):
    frame = population(60)
    frame["split"] = np.select([frame["patient"] < "P000030", frame["patient"] < "P000045"], ["train", "val"], "test")
    whole = assign(frame, split=split)
    for fold in range(3):
        made = assign(frame, split=split, n_folds=3, fold=fold, fold_val=False)
        kept = whole[whole["split"] != "val"]
        assert made["path"].tolist() == kept["path"].tolist()
        assert made["split"].eq("test").equals(kept["split"].eq("test"))
        assert made["split"].eq("val").any() and made["split"].eq("train").any()
        mf.check_patients(made, "here")
    assert (
        splitting.name(frame, "official", {}, 3, 0, fold_val=False) == "official in 3 folds of the train split (seed 0)"
    )


def test_knees_of_unknown_patients_are_dealt_alone():
    frame = population(100).assign(patient="")
    made = assign(frame)
    assert (made["patient"] == "").all()
    assert set(made["split"]) == SPLITS
    assert abs((made["split"] == "train").mean() - 0.7) < 0.02


@given(st.floats(0.05, 0.95), st.integers(0, 20))
def test_a_fraction_is_of_the_train_split_s_patients_alone(share, seed):
    frame = assign(population(120), seed=seed)
    kept = splitting.fraction(frame, share, seed)
    assert set(kept.index) <= set(frame.index)
    for split in ("val", "test"):
        assert (kept["split"] == split).sum() == (frame["split"] == split).sum()
    before, after = (each[each["split"] == "train"] for each in (frame, kept))
    assert abs(after["patient"].nunique() - share * before["patient"].nunique()) < 1
    assert (before[before["patient"].isin(after["patient"])].index == after.index).all()  # both knees or none
    assert splitting.fraction(frame, share, seed).equals(kept)


def test_a_fraction_of_everything_or_of_no_train_split_changes_nothing():
    frame = assign(population(30))
    assert splitting.fraction(frame, 1.0, 0) is frame
    only = frame[frame["split"] == "val"]
    assert splitting.fraction(only, 0.5, 0) is only


def test_a_fraction_of_nobody_stops():
    with pytest.raises(InputError, match=r"data\.fraction=0\.001: leaves no patient in the train split"):
        splitting.fraction(assign(population(30)), 0.001, 0)


@pytest.mark.parametrize("way", [{}, {"n_folds": 4, "fold": 1}])
def test_knees_of_unknown_patients_stay_in_their_splits_where_the_data_move(way, tmp_path, monkeypatch):
    names = [f"{i % 5}/{i:03d}.png" for i in range(60)]

    def splits(typed):
        frame = pd.DataFrame({"path": [str(typed / name) for name in names], "grade": [i % 5 for i in range(60)]})
        made = assign(mf.make(frame.sample(frac=1, random_state=1), "here"), base=typed, **way)
        rest = splitting.fraction(made, 0.5, 0, typed)
        return [
            dict(zip(p["path"].map(lambda q: q[len(str(typed)) + 1 :]), p["split"], strict=True)) for p in (made, rest)
        ]

    monkeypatch.chdir(tmp_path)
    first = splits(tmp_path / "here")
    assert splits(tmp_path / "moved" / "there") == first
    assert splits(Path("here")) == first
    assert 0 < len(first[1]) < len(first[0]) == 60


def test_as_many_patients_as_splits_are_enough():
    three = manifest([[0, 1, 2, 3, 4]] * 3)
    assert set(stratified(three, val=0.3, test=0.3)) == SPLITS
    assert set(stratified(three[:5], val=0.0, test=0.0)) == {"train"}
    assert {int((splitting.folds(three, n=3, fold=fold, seed=0) == "val").sum()) for fold in range(3)} == {5}


def test_a_fold_below_the_first_stops():
    with pytest.raises(InputError, match=r"data.fold=-1: with data.folds=2 it must be 0 to 1"):
        splitting.folds(manifest([[0, 4]] * 4), n=2, fold=-1, seed=0)
    assert set(splitting.folds(manifest([[0, 4]] * 4), n=2, fold=1, seed=0)) == {"train", "val"}


def test_shares_that_leave_just_something_to_train_on():
    frame = manifest([[grade] for grade in range(5)] * 40)
    assert (stratified(frame, val=0.5, test=0.49) == "train").sum() == 2


def test_the_whole_train_split_is_the_manifest_itself():
    frame = population(50).assign(split="train")
    assert splitting.fraction(frame, 1, 0) is frame
    none = frame.assign(split="val")
    assert splitting.fraction(none, 0.5, 0) is none


@given(st.lists(GRADES_OF_A_PATIENT, min_size=2, max_size=20), SEEDS, st.data())
@settings(max_examples=40, deadline=None)
def test_no_fold_is_empty_however_few_the_patients(patients, seed, data):
    n = data.draw(st.integers(2, len(patients)))
    fold = data.draw(st.integers(0, n - 1))
    assert set(splitting.folds(manifest(patients), n=n, fold=fold, seed=seed)) == {"train", "val"}


def test_a_split_that_few_patients_leave_empty_is_named(capsys):
    few = manifest([[0], [1], [2]])
    made = {tuple(sorted(set(assign(few, seed=seed)["split"]))) for seed in range(5)}
    lines = capsys.readouterr().err.splitlines()
    assert ("train", "val") in made  # which the line is about
    assert lines[0].startswith("WARNING: here: the test split is empty: 3 patients are too few for ")
    assert assign(few, val_fraction=0.0, test_fraction=0.0)["split"].eq("train").all()
    assert set(assign(population(40))["split"]) == SPLITS
    assert capsys.readouterr().err == ""
