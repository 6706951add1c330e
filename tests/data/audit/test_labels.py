import numpy as np
import pandas as pd
import pytest

from koa_lightning.data.audit import labels
from koa_lightning.data.oof import PROBABILITIES
from koa_lightning.errors import InputError

N = 200


def confident_joint(label, shares):
    """Northcutt 2021: rows that reach the mean probability of another class, and it is their most probable one."""
    thresholds = np.array([shares[label == k, k].mean() for k in range(shares.shape[1])])
    reached = np.where(shares >= thresholds - 1e-6, shares, -1)
    best = reached.argmax(axis=1)
    return set(np.flatnonzero((reached.max(axis=1) >= 0) & (best != label)).tolist())


@pytest.fixture
def knees():
    """Labels of which ten are wrong, and probabilities that know better."""
    rng = np.random.default_rng(0)
    true = np.arange(N) % 5
    shares = 0.9 * np.eye(5)[true] + 0.02  # equal, as confident learning passes over what is below the mean
    label = true.copy()
    wrong = rng.choice(N, 10, replace=False)
    label[wrong] = (true[wrong] + 2) % 5
    rows = pd.DataFrame({"path": [f"/data/train/{g}/{i}.png" for i, g in enumerate(label)], "grade": label})
    oof = pd.DataFrame(shares, columns=PROBABILITIES).assign(path=rows["path"])
    return rows, oof, set(wrong.tolist())


def test_wrong_labels_are_found_as_by_the_confident_joint(knees):
    rows, oof, wrong = knees
    findings = labels.suspicious(rows, oof)
    got = {finding.rows[0] for finding in findings}
    assert got == confident_joint(rows["grade"].to_numpy(), oof[PROBABILITIES].to_numpy())
    assert wrong <= got
    assert len(got) <= len(wrong) + 4
    assert {finding.rows[0] for finding in findings[:10]} == wrong  # the most contradicted first
    assert {finding.severity for finding in findings} == {"note"}
    first = findings[0]
    assert f"labelled {first.numbers['grade']} with probability" in first.evidence


def test_unknown_grades_and_rows_without_probabilities_are_passed_over(knees):
    rows, oof, wrong = knees
    rows = rows.assign(grade=rows["grade"].where(rows.index != min(wrong), -1))
    got = {finding.rows[0] for finding in labels.suspicious(rows, oof[oof.index != max(wrong)])}
    assert got >= wrong - {min(wrong), max(wrong)}
    assert not got & {min(wrong), max(wrong)}


def test_grades_that_no_knee_has_do_not_matter(knees):
    rows, oof, _ = knees
    few = rows["grade"].isin([0, 2]).to_numpy()
    got = {finding.rows[0] for finding in labels.suspicious(rows[few].reset_index(drop=True), oof)}
    assert got
    one = rows["grade"].eq(0).to_numpy()
    assert labels.suspicious(rows[one].reset_index(drop=True), oof) == []


def test_a_folder_that_was_moved_is_known_by_the_ends_of_its_paths(knees):
    rows, oof, wrong = knees
    moved = rows.assign(path=rows["path"].str.replace("/data/", "/elsewhere/"))
    assert {finding.rows[0] for finding in labels.suspicious(moved, oof)} >= wrong
    with pytest.raises(InputError, match="none of its paths is in the data"):
        labels.suspicious(rows.assign(path="/other/x.png"), oof)


@pytest.mark.parametrize("moved", ["rows", "oof", "both"])
def test_files_of_a_moved_folder_that_end_alike_are_refused(knees, moved):
    rows, oof, wrong = knees
    old = [f"/old/{site}{path}" for site in "ab" for path in rows["path"]]
    two = pd.concat([rows, rows], ignore_index=True).assign(path=old), pd.concat([oof, oof]).assign(path=old)
    assert {finding.rows[0] for finding in labels.suspicious(*two)} >= wrong  # the same paths distinguish them
    elsewhere = two[0].assign(path=[path.replace("/old/", "/new/") for path in old])
    given = (elsewhere if moved != "oof" else rows, two[1] if moved != "rows" else oof.assign(path=old[:N]))
    with pytest.raises(InputError, match=r"oof: .* are ambiguous: several files end in train/0/\d+\.png; use the"):
        labels.suspicious(*given)


def test_a_missing_library_is_named(knees, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(InputError, match=r"pip install 'koa-lightning\[audit\]'"):
        labels.suspicious(*knees[:2])
