"""Coverage and calibration on simulated knees: `python -m benchmarks.conformal [SPLITS]`.

Patients have two knees of correlated severity; a network sees each with noise and is overconfident. Many times a
validation split of 413 patients is drawn, temperature and the limit of the prediction sets are fitted on that same
split, as training does, and the sets are counted on 828 other patients. Goal: coverage within one point of nominal.
Research use only, not a medical device.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from koa_lightning.uncertainty import calibration, conformal, patients, recalibrated, reliability

SPLITS = 200
VAL, TEST = 413, 828  # patients, as in Chen 2018
ALPHAS = (0.05, 0.1, 0.2)
CUTS = np.array([-0.25, 0.2, 0.99, 1.88])  # of the severity: the grade shares of Chen 2018
SURE = 2.0  # times the logits that would be right


def simulate(n_patients: int, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return logits (float32 N x 5), grades and patients' numbers of two knees each.

    The logits are the log probabilities of the grades given what the network sees, times `SURE`.
    """
    own = rng.normal(size=(n_patients, 1))
    severity = (np.sqrt(0.6) * own + np.sqrt(0.4) * rng.normal(size=(n_patients, 2))).ravel()
    noise = np.repeat(rng.choice([0.3, 0.6, 1.0], n_patients), 2)  # per patient: some films are poor
    seen = severity + noise * rng.normal(size=2 * n_patients)
    # severity given what is seen: normal, with shrunken mean
    mean, spread = seen / (1 + noise**2), noise / np.sqrt(1 + noise**2)
    from scipy.stats import norm

    below = norm.cdf((CUTS - mean[:, None]) / spread[:, None])
    p = np.diff(np.column_stack([np.zeros(len(seen)), below, np.ones(len(seen))]), axis=1)
    logits = SURE * np.log(np.clip(p, 1e-9, 1))
    return torch.from_numpy(logits).float(), np.searchsorted(CUTS, severity), np.repeat(np.arange(n_patients), 2)


def run(splits: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return for each split: coverage and mean size by alpha, ece and log loss before and after, the temperature."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[float]] = {}
    for _ in range(splits):
        logits, grade, patient = simulate(VAL, rng)
        group = patients.groups([str(number) for number in patient])
        entry = calibration.fit(logits, "softmax", grade, "temperature")
        sets = conformal.fit(recalibrated.probabilities(logits, "softmax", entry).numpy(), grade, group)
        logits, grade, _ = simulate(TEST, rng)
        raw, p = (recalibrated.probabilities(logits, "softmax", each).numpy() for each in (None, entry))
        found = {"temperature": entry.parameters["temperature"]}
        for side, each in (("before", raw), ("after", p)):
            found_scores = reliability.scores(each, grade)
            found |= {f"ece {side}": found_scores["ece"], f"log loss {side}": found_scores["log_loss"]}
        for alpha in ALPHAS:
            low, high = conformal.sets(p, conformal.chosen(sets, alpha))
            found[f"coverage {alpha}"] = float(((low <= grade) & (grade <= high)).mean())
            found[f"size {alpha}"] = float((high - low + 1).mean())
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()}


def main(splits: int) -> int:
    """Print the table; return 1 if a coverage is off by more than a point."""
    found = run(splits)
    print(f"{splits} splits: fitted on {VAL} patients, measured on {TEST} more; mean (sd between splits)")
    for name, values in found.items():
        print(f"{name:<18} {values.mean():.4f} ({values.std():.4f})")
    off = {alpha: abs(found[f"coverage {alpha}"].mean() - (1 - alpha)) for alpha in ALPHAS}
    for alpha, gap in off.items():
        print(f"alpha {alpha}: off by {100 * gap:.2f} points, goal 1")
    print(f"temperature: true {SURE}, found {found['temperature'].mean():.3f}")
    return int(max(off.values()) > 0.01)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SPLITS))
