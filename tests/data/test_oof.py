import numpy as np
import pandas as pd
import pytest

from koa_lightning.data.oof import PROBABILITIES, joined, read_oof
from koa_lightning.errors import InputError


@pytest.fixture
def table():
    """Probabilities of 20 knees by their paths."""
    shares = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    return pd.DataFrame(shares, columns=PROBABILITIES).assign(path=[f"/data/train/{i % 5}/{i}.png" for i in range(20)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_read(table, tmp_path, suffix):
    oof = table
    file = tmp_path / f"oof.{suffix}"
    doubled = pd.concat([oof.assign(p0=0.0, p1=1.0, p2=0.0, p3=0.0, p4=0.0), oof])
    doubled.to_csv(file) if suffix == "csv" else doubled.to_parquet(file)
    read = read_oof(file)
    assert np.allclose(read[PROBABILITIES], oof[PROBABILITIES])  # the last of a path counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda oof: oof.drop(columns="p3"), "column 'p3' is missing"),
        (lambda oof: oof.assign(p0=oof["p0"] + 1), "line 2: p0 to p4 are not probabilities"),
        (lambda oof: oof.assign(p0="high"), "p0 to p4 must be numbers"),
    ],
)
def test_a_table_that_is_not_one_of_probabilities_stops(table, tmp_path, change, message):
    change(table).to_csv(tmp_path / "oof.csv")
    with pytest.raises(InputError, match=message):
        read_oof(tmp_path / "oof.csv")


def test_a_missing_table_is_named_with_its_setting(tmp_path):
    with pytest.raises(InputError, match=r"^teacher.table=.*no.csv: there is no such file"):
        read_oof(tmp_path / "no.csv", "teacher.table")


def test_each_knee_gets_its_own_probabilities(table):
    rows = table[["path"]].iloc[::-1].assign(grade=[0, 1, 2, -1] * 5).reset_index(drop=True)
    found, probabilities = joined(rows, table.iloc[:15], "oof")
    assert found.tolist() == [i for i in range(5, 20) if i % 4 != 3]
    assert np.array_equal(probabilities, table[PROBABILITIES].to_numpy()[19 - found])
