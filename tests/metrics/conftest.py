import numpy as np
import pandas as pd
import pytest

PROBABILITIES = [f"p{grade}" for grade in range(5)]


@pytest.fixture(scope="session")
def graded_table():
    """A predictions table: two knees a patient, alike in grade, graded with the sharpness given."""

    def make(n_patients=60, seed=0, sharpness=1.0, truth=0):
        rng = np.random.default_rng(truth)
        severity = rng.normal(2, 1.3, n_patients).repeat(2) + rng.normal(0, 0.5, 2 * n_patients)
        grade = severity.round().clip(0, 4).astype(int)
        rng = np.random.default_rng([seed, 7])
        logits = rng.normal(size=(2 * n_patients, 5)) - 0.7 * np.abs(np.arange(5) - grade[:, None])
        p = np.exp(sharpness * logits)
        p = (p / p.sum(1, keepdims=True)).astype(np.float32)
        names = [f"{knee // 2:04d}" for knee in range(2 * n_patients)]
        sides = ["LR"[knee % 2] for knee in range(2 * n_patients)]
        table = pd.DataFrame({"path": [f"/data/{a}{b}.png" for a, b in zip(names, sides, strict=True)]})
        table["patient"], table["side"] = names, sides
        table["grade"] = pd.array(grade, dtype="Int64")
        table["predicted"], table["expected_grade"] = p.argmax(1), p @ np.arange(5)
        table[PROBABILITIES] = p
        return table

    return make
