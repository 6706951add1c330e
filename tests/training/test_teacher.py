import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from koa_lightning.data.oof import PROBABILITIES
from koa_lightning.errors import InputError
from koa_lightning.models.outputs import n_outputs, probabilities
from koa_lightning.training.mixup import Mixed
from koa_lightning.training.teacher import Teacher

N = 12


def rows(split, first, n=N):
    """Manifest rows of n knees, two of each patient."""
    numbers = range(first, first + n)
    return pd.DataFrame({
        "path": [f"/data/{split}/{i}.png" for i in numbers], "grade": [i % 5 for i in numbers],
        "patient": [f"P{i // 2}" for i in numbers], "side": ["L", "R"] * (n // 2), "split": split,
    })  # fmt: skip


TRAIN, VAL = rows("train", 0), rows("val", 100)


@pytest.fixture
def table(tmp_path):
    """A file of out-of-fold predictions of these rows, shuffled; returns its path and the probabilities."""

    def write(knees, columns=("patient",)):
        shares = np.random.default_rng(1).dirichlet(np.ones(5), len(knees)).astype(np.float32)
        made = pd.DataFrame(shares, columns=PROBABILITIES).assign(path=knees["path"].to_numpy())
        for column in columns:
            made[column] = knees[column].to_numpy()
        made.sample(frac=1, random_state=0).to_parquet(tmp_path / "oof.parquet")
        return str(tmp_path / "oof.parquet"), shares

    return write


def whole(n):
    return Mixed(torch.zeros(n, 1, 2, 2), torch.arange(n), 1.0)


def test_each_knee_is_taught_by_its_own_row(table):
    file, shares = table(TRAIN)
    teacher = Teacher(file, 1.0)
    teacher.prepare(TRAIN, VAL)
    index = torch.tensor([3, 0, 7])
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found = teacher(torch.tensor(9.0), logits, index, whole(3), "softmax")
    expected = nn.CrossEntropyLoss()(logits, torch.from_numpy(shares)[index])
    torch.testing.assert_close(found, expected)


@given(st.floats(0, 1), st.sampled_from(["softmax", "corn"]), st.floats(0.5, 1), st.integers(0, 1000))
def test_the_loss_is_the_mean_of_both_by_weight_and_share(weight, link, share, seed):
    torch.manual_seed(seed)
    teacher = Teacher("a table", weight)
    teacher.labels = torch.rand(N, 5).softmax(1)
    logits, index, partner = torch.randn(4, n_outputs(link)), torch.randint(0, N, (4,)), torch.randperm(4)
    found = teacher(torch.tensor(2.0), logits, index, Mixed(torch.zeros(4, 1, 2, 2), partner, share), link)
    target = share * teacher.labels[index] + (1 - share) * teacher.labels[index][partner]
    soft = -(target * probabilities(logits, link).log()).sum(1).mean()
    torch.testing.assert_close(found, (1 - weight) * 2.0 + weight * soft, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_least_where_the_network_says_what_the_teacher_says(table):
    file, shares = table(TRAIN)
    teacher = Teacher(file, 1.0)
    teacher.prepare(TRAIN, VAL)
    logits = torch.from_numpy(shares).log().requires_grad_()
    teacher(torch.tensor(0.0), logits, torch.arange(N), whole(N), "softmax").backward()
    assert logits.grad.abs().max() < 1e-6


def test_without_a_table_the_loss_stays_what_it_is():
    loss = torch.tensor(1.5)
    for teacher in (Teacher(), Teacher("a table", 0.0)):
        assert teacher(loss, torch.zeros(2, 5), torch.arange(2), whole(2), "softmax") is loss
    Teacher().prepare(TRAIN, VAL)


def test_per_grade_a_knee_learns_with_what_its_grade_is_confused(table):
    file, shares = table(TRAIN)
    teacher = Teacher(file, 1.0, "grade")
    teacher.prepare(TRAIN, VAL)
    expected = pd.DataFrame(shares).groupby(TRAIN["grade"].to_numpy()).transform("mean").to_numpy()
    np.testing.assert_allclose(teacher.labels.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(teacher.labels.sum(dim=1).numpy(), 1.0, rtol=1e-5)


def test_labels_are_per_knee_or_per_grade():
    with pytest.raises(InputError, match=r"teacher\.per=patient: must be knee or grade"):
        Teacher("a table", 0.5, "patient")


def test_its_labels_are_in_no_checkpoint(table):
    teacher = Teacher(table(TRAIN)[0], 0.5)
    teacher.prepare(TRAIN, VAL)
    assert dict(teacher.state_dict()) == {}


def test_a_knee_without_a_teacher_stops(table):
    file, _ = table(TRAIN.drop(index=4))
    with pytest.raises(
        InputError, match=r"1 of 12 training knees are not in it, e.g. /data/train/4.png; .*fold_val=fa"
    ):
        Teacher(file, 0.5).prepare(TRAIN, VAL)


@pytest.mark.parametrize("columns", [("patient",), ()])
def test_a_table_with_knees_that_are_measured_stops(table, columns):
    file, _ = table(pd.concat([TRAIN, VAL.iloc[3:4]]), columns)
    with pytest.raises(InputError, match=r"knees of the val split or of its patients, e.g. /data/val/10[23].png, so"):
        Teacher(file, 0.5).prepare(TRAIN, VAL)


def test_the_other_knee_of_a_patient_that_is_measured_stops(table):
    other = rows("elsewhere", 100, 2)  # of the first patient of the validation split, under another path
    file, _ = table(pd.concat([TRAIN, other]))
    with pytest.raises(InputError, match="has 2 knees of the val split or of its patients"):
        Teacher(file, 0.5).prepare(TRAIN, VAL)


def test_knees_of_unknown_patient_are_no_patient_of_the_table(table):
    file, _ = table(TRAIN.assign(patient=""))
    Teacher(file, 0.5).prepare(TRAIN, VAL.assign(patient=""))


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_weight_outside_its_range_stops(weight):
    with pytest.raises(InputError, match=f"teacher.weight={weight}: must be from 0 to 1"):
        Teacher("a table", weight)
