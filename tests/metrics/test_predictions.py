import numpy as np
import pandas as pd
import pytest
import torch

from koa_lightning.data import manifest
from koa_lightning.data import manifest as mf
from koa_lightning.metrics import predictions
from koa_lightning.models import outputs

NAMES = [  # others rely on these
    "path", "patient", "side", "grade", "predicted", "expected_grade", "median_grade",
    "p0", "p1", "p2", "p3", "p4", "z0", "z1", "z2", "z3", "z4",
]  # fmt: skip


def knees(**more):
    rows = {
        "path": ["/x/a.png", "/x/b.png", "/x/c.png"],
        "grade": [0, -1, 4],
        "patient": ["007", "", "007"],
        "side": ["L", "", "R"],
        "split": "test",
        "hash": "f" * 32,
    }
    return mf.make(pd.DataFrame(rows | more), "here")


def logits(k=5, n=3):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(0)) * 2


def test_the_columns_are_those_that_others_rely_on():
    made = predictions.predictions_table(knees(), logits(), "softmax")
    assert list(made.columns) == NAMES == predictions.COLUMNS
    assert made["path"].tolist() == ["/x/a.png", "/x/b.png", "/x/c.png"]
    assert made["patient"].tolist() == ["007", "", "007"]
    assert made["side"].tolist() == ["L", "", "R"]


@pytest.mark.parametrize(("link", "k"), [("softmax", 5), ("corn", 4)])
def test_the_values_belong_together(link, k):
    z = logits(k)
    made = predictions.predictions_table(knees(), z, link)
    p = made[predictions.PROBABILITIES].to_numpy()
    assert np.allclose(p.sum(1), 1, atol=1e-6)
    assert np.allclose(p, outputs.probabilities(z, link).numpy())
    assert made["predicted"].tolist() == p.argmax(1).tolist()
    assert np.allclose(made["expected_grade"], p @ np.arange(5), atol=1e-5)
    assert np.allclose(made[predictions.LOGITS[:k]], z.numpy())
    assert made[predictions.LOGITS[k:]].isna().all(axis=None)


def test_an_unknown_grade_is_empty():
    made = predictions.predictions_table(knees(), logits(), "softmax")
    assert made["grade"].isna().tolist() == [False, True, False]
    assert made["grade"].dropna().tolist() == [0, 4]
    assert predictions.labelled(made)["path"].tolist() == ["/x/a.png", "/x/c.png"]


def test_paths_alone_are_enough():
    made = predictions.predictions_table(pd.DataFrame({"path": ["a", "b", "c"]}), logits(), "softmax")
    assert list(made.columns) == NAMES
    assert made["grade"].isna().all()
    assert (made[["patient", "side"]] == "").all(axis=None)


def test_further_columns_are_kept_at_the_end_but_not_those_of_the_manifest():
    rows = knees(age=[60, 70, 80], p0=[9, 9, 9], site=["Ulm", "Bonn", None])
    rows.index = [5, 3, 1]
    made = predictions.predictions_table(rows, logits(), "softmax")
    assert list(made.columns) == [*NAMES, "age", "site"]
    assert made["age"].tolist() == [60, 70, 80]
    assert made["p0"].max() <= 1


def test_both_files_hold_the_table(tmp_path):
    made = predictions.predictions_table(knees(age=[60, 70, 80]), logits(4), "corn")
    files = predictions.write(made, tmp_path, "mine")
    assert files == [tmp_path / "mine.csv", tmp_path / "mine.parquet"]
    read = pd.read_csv(files[0], dtype={"patient": "str"})
    assert list(read.columns) == list(made.columns)
    assert read["grade"].fillna(-1).tolist() == [0, -1, 4]
    assert files[0].read_text().splitlines()[2].startswith("/x/b.png,,,,")  # empty, not -1 or nan
    assert np.allclose(read[predictions.PROBABILITIES], made[predictions.PROBABILITIES])
    pd.testing.assert_frame_equal(pd.read_parquet(files[1]), made)


def test_an_empty_table_can_be_written(tmp_path):
    files = predictions.write(pd.DataFrame(columns=predictions.COLUMNS), tmp_path)
    assert [len(pd.read_csv(files[0])), len(pd.read_parquet(files[1]))] == [0, 0]
    made = predictions.predictions_table(pd.DataFrame({"path": []}), logits(n=0), "softmax")
    assert list(made.columns) == NAMES


def test_patients_are_counted_once_and_unknown_ones_by_knee():
    assert manifest.n_patients(pd.DataFrame({"patient": ["P1", "P1", "P2", "", ""]})) == 4
    assert manifest.n_patients(pd.DataFrame({"patient": []})) == 0


def test_the_confusion_counts_labelled_knees_alone():
    table = pd.DataFrame({"grade": [0, 0, 1, 4, None], "predicted": [0, 2, 1, 3, 4]})
    wanted = np.zeros((5, 5), np.int64)
    for true, predicted in ((0, 0), (0, 2), (1, 1), (4, 3)):
        wanted[true, predicted] = 1
    counts = predictions.confusion(table)
    assert counts.dtype == np.int64 and (counts == wanted).all()
