"""An evaluation as files, of knees whose grades and probabilities are made up."""

import json

import numpy as np
import pandas as pd
import pytest

from koa_lightning.reporting import report_data


@pytest.fixture(scope="session")
def made_up():
    """Predictions of 120 knees of 60 patients, with a column `site`."""
    rng = np.random.default_rng(3)
    grade = np.arange(120) % 5
    p = np.full((120, 5), 0.05)
    p[np.arange(120), np.clip(grade + rng.choice([-1, 0, 0, 0, 1, 2], 120), 0, 4)] += 0.75
    table = pd.DataFrame({"path": [f"/home/somebody/knees/{n:03d}.png" for n in range(120)]})
    table["patient"], table["side"] = [f"P{n // 2:02d}" for n in range(120)], ["L", "R"] * 60
    table["grade"] = pd.array(grade, dtype="Int64")
    table[[f"p{g}" for g in range(5)]] = p
    return table.assign(site=np.where(np.arange(120) < 80, "Ulm", "Bonn <b>"))


@pytest.fixture(scope="session")
def model():
    return {
        "name": "tiny",
        "file": "best.ckpt",
        "sha256": "ab" * 32,
        "epoch": 4,
        "n_parameters": 3_400_000,
        "run_id": "",
        "version": "0.1.0",
        "net": {"name": "tiny_net", "link": "softmax", "mean": 0.4, "std": 0.2, "image_size": 32},
        "preprocessing": {"image_size": 32, "fit": "letterbox", "canonical_side": None, "fix_polarity": False},
        "grade_names": ["none", "doubtful", "minimal", "moderate", "severe"],
        "config": {
            "name": "study",
            "seed": 42,
            "monitor": "val/quadratic_kappa",
            "data": {"batch_size": 8, "sampler": "none"},
            "augment": {"flip": 0.5, "erasing": 0.0, "erasing_area": [0.1, 0.2], "gamma": [1.0, 1.0]},
            "optimizer": {"lr": 3e-4, "weight_decay": 0.02},
            "loss": {"class_weights": "balanced"},
            "trainer": {"max_epochs": 9},
            "callbacks": {"ema": {"decay": 0.99}},
        },
        "data": {"name": "chen2018", "fingerprint": "fedcba9876543210", "split": "official",
                 "counts": {"train": [9, 8, 7, 6, 5], "val": [4, 3, 2, 1, 1]}},
        "marks": [],
        "weights": "imagenet",
        "plan": {"precision": "fp32"},
        "loss": "koa_lightning.losses.CrossEntropy",
        "made_of": {"optimizer": "AdamW", "scheduler": "one_cycle"},
        "training": {"epochs": 9, "parts": {"train": {"n_patients": 20}, "val": {"n_patients": 6}}},
    }  # fmt: skip


@pytest.fixture(scope="session")
def about(model):
    """What `evaluation.json` holds."""
    data = {"name": "chen2018", "part": "test", "fingerprint": "0123456789abcdef", "split": "official"}
    sizes = {"n_knees": 120, "n_patients": 60, "grades": [24] * 5, "n_unknown": 0, "sides": {"L": 60, "R": 60}}
    return {
        "note": "research use only, not a medical device",
        "kind": "checkpoint",
        "models": [model],
        "data": {**data, **sizes, "n_trained_on": 0},
        "marks": [],
        "settings": {"tta": "none"},
        "tracking": {"run_id": "", "uri": ""},
        "code": {"version.koa_lightning": "0.1.0", "version.python": "3.11", "git.commit": "c0ffee" * 6,
                 "git.dirty": "false", "machine.cpu": "a processor", "machine.threads": "2"},
        "command": "python -m koa_lightning.eval ckpt=best.ckpt",
        "time": "2026-11-24 09:00 UTC",
    }  # fmt: skip


@pytest.fixture(scope="session")
def computed():
    """What else an evaluation writes: calibration, sets, tests of explanations, an audit."""
    bins = [{"low": 0.0, "high": 0.5, "n": 40, "confidence": 0.4, "share": 0.5},
            {"low": 0.5, "high": 1.0, "n": 80, "confidence": 0.8, "share": 0.7}]  # fmt: skip
    scores = {"ece": 0.08, "ece_classwise": 0.05, "log_loss": 0.9, "brier": 0.5, "rps": 0.3}
    test = {"map": 0.3, "random": 0.4, "centre": 0.35, "difference": 0.05, "low": 0.01, "high": 0.09,
            "against": "centre", "n": 20, "verdict": "passed", "rule": "better than both controls"}  # fmt: skip
    curve = {name: [0.9, 0.6, 0.2] for name in ("map", "random", "centre")}
    return {
        "calibration": {"method": "temperature", "parameters": {"temperature": 1.4}, "measured": "on a part apart",
                        "before": scores, "after": {**scores, "ece": 0.03}, "n_knees": 120,
                        "bins": {"before": bins, "after": bins}, "bins_oa": {"before": bins, "after": bins}},
        "conformal": {"alpha": 0.1, "target": 0.9, "coverage": 0.917, "mean_size": 1.6, "measured": "on a part apart",
                      "by_grade": {str(g): {"n": 24, "coverage": 0.9, "size": 1.5} for g in range(5)},
                      "sizes": {"1": 60, "2": 50, "3": 10}},
        "abstention": {"curve": [[0.5, 0.1], [0.75, 0.2], [1.0, 0.3]], "thresholds": [0.9, 0.7, 0.2], "aurc": 0.2,
                       "best_aurc": 0.05, "risk": 0.3, "threshold": 0.6, "coverage_at_threshold": 0.8,
                       "risk_at_threshold": 0.22, "n_knees": 120},
        "inputs": {"threshold": 1.0, "n_flagged": 2, "n_inputs": 120, "expected_share": 0.01, "measured": "apart"},
        "explanations": {
            "method": "gradcam", "target": "grade", "n": 20, "n_patients": 15,
            "faithfulness": {"deletion": {**test, "curve": curve}, "insertion": {**test, "curve": curve}, "road": test},
            "sanity": {"layers": [{"layer": "classifier", "similarity": 0.6, "low": 0.5, "high": 0.7},
                                  {"layer": "all", "similarity": 0.55, "low": 0.5, "high": 0.6}],
                       "n": 20, "verdict": "failed", "rule": "the likeness is below 0.5"},
            "noise": {"similarity": 0.9, "low": 0.88, "high": 0.92, "verdict": "passed", "rule": "above 0.8"},
            "localisation": {"region": "joint band", "area": 0.3, "share": {"map": 0.5, "random": 0.3, "centre": 0.4},
                             "verdict": "passed", "rule": "better than both controls"},
            "shortcut": {"kappa": 0.7, "without_joint": 0.2, "only_joint": 0.6, "survives": 0.29, "verdict": "passed"},
            "verdicts": {"deletion": "passed", "insertion": "passed", "road": "passed", "sanity": "failed",
                         "noise": "passed", "localisation": "passed", "shortcut": "passed"},
        },
    }  # fmt: skip


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    content = {"data": "chen2018", "fingerprint": "aa", "n_knees": 46, "exit_code": 3,
               "parts": {"train": [9, 8, 7, 6, 5], "val": [4, 3, 2, 1, 2]},
               "severities": {"leakage": 1, "warning": 0}, "kinds": {"same_pixels": 1, "blank": 0}}  # fmt: skip
    (folder / "audit.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory, made_up, about, computed):
    """The folder of an evaluation with everything in it; do not change it."""
    folder = tmp_path_factory.mktemp("evaluated")
    made_up.to_parquet(folder / "predictions.parquet")
    (folder / "evaluation.json").write_text(json.dumps(about))
    for name, content in computed.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def full(evaluated, audited):
    """The dossier of it; do not change it."""
    return report_data.read(evaluated, str(audited))


@pytest.fixture(scope="session")
def bare(tmp_path_factory, made_up):
    """The dossier of a table alone, without sides; do not change it."""
    folder = tmp_path_factory.mktemp("bare")
    made_up.drop(columns=["side", "site"]).to_csv(folder / "predictions.csv", index=False)
    return report_data.read(folder)


@pytest.fixture(scope="session")
def words():
    """Return the sentences of a section."""
    return lambda section: " ".join(block.words for block in section.blocks if block.kind in ("text", "absent"))


@pytest.fixture(scope="session")
def tables():
    """Return the tables of a section."""
    return lambda section: [block for block in section.blocks if block.kind == "table"]
