import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from koa_lightning.checkpoint import fitted as stored
from koa_lightning.errors import InputError
from koa_lightning.evaluation import referral
from koa_lightning.models import outputs
from koa_lightning.uncertainty import fit, recalibrated, summary

ON_DISK = ["calibration", "conformal", "abstention", "inputs"]


@pytest.fixture(scope="module")
def looks():
    sizes = {"picture": 196, "texture": 18, "features": 10}

    def make(n, seed=0):
        rng = np.random.default_rng(seed)
        return {split: rng.normal(size=(n, size)) for split, size in sizes.items()}

    return make


def as_read(entries, tensors):
    """What `checkpoint.read` gives, without a file."""
    record = SimpleNamespace(fitted=entries, net=SimpleNamespace(link="softmax"))
    return SimpleNamespace(record=record, reference=tensors)


def calibrated(read, logits):
    return recalibrated.probabilities(logits, "softmax", read.record.fitted.calibration)


@pytest.fixture(scope="module")
def fitted(simulate, looks):
    logits, grade, patient = simulate(120)
    knees = {"grade": grade.tolist(), "patient": patient}
    record, tensors = fit.fit(logits, "softmax", knees, looks(240), method="temperature", fingerprint="abc")
    return as_read(record, tensors)


def test_everything_is_fitted_and_plain(fitted, simulate, looks):
    entries = fitted.record.fitted
    kept = entries.to_plain()
    assert stored.wrong(kept, fitted.reference) == ""
    assert stored.Fitted.from_plain(kept) == entries
    assert list(kept) == ON_DISK
    assert json.loads(json.dumps(kept)) == kept
    entry = kept["calibration"]
    assert entry["parameters"]["temperature"] == pytest.approx(2, abs=0.5)
    assert entry["cross_fitted_log_loss"]["temperature"] < entry["cross_fitted_log_loss"]["none"]
    assert (entry["n_knees"], entry["n_patients"], entry["part"]) == (240, 120, "abc")
    words = fit.in_words(entries.calibration)
    assert words.startswith("calibrated on the validation split (120 patients): temperature ")


@pytest.mark.parametrize("method", ["temperature", "ordinal", "bias"])
def test_a_recalibration_that_loses_by_its_cross_fit_is_not_kept(method, looks):
    rng = np.random.default_rng(1)
    grade, patient = rng.integers(0, 5, 120), [f"p{i // 2}" for i in range(120)]
    shares = torch.tensor(np.bincount(grade, minlength=5) / 120).log().float()
    logits = shares.repeat(120, 1)  # all that can be known: nothing is left to fit
    record, _ = fit.fit(logits, "softmax", {"grade": grade.tolist(), "patient": patient}, looks(120), method=method,
                        fingerprint="")  # fmt: skip
    entry = record.calibration
    losses = entry.cross_fitted_log_loss
    assert losses[method] >= losses["none"]
    assert (entry.method, entry.parameters) == ("none", {})
    assert stored.Calibration.wrong(entry.to_plain()) == ""
    said = f"{method} does not lower the cross-fitted log loss, {losses['none']:.4f} -> {losses[method]:.4f}"
    assert entry.lost == said
    assert fit.in_words(record.calibration).startswith(
        f"not calibrated: on the validation split (60 patients) {said}; probabilities stay raw"
    )
    assert torch.equal(recalibrated.probabilities(logits, "softmax", entry), outputs.probabilities(logits, "softmax"))


def test_none_that_was_asked_for_has_lost_nothing(simulate, looks):
    logits, grade, patient = simulate(60)
    knees = {"grade": grade.tolist(), "patient": patient}
    record, _ = fit.fit(logits, "softmax", knees, looks(120), method="none", fingerprint="")
    assert record.calibration.lost is None
    assert fit.in_words(record.calibration).startswith("calibrated on the validation split (60 patients): none")


def test_the_same_again(simulate, looks):
    logits, grade, patient = simulate(60)
    knees, described = {"grade": grade.tolist(), "patient": patient}, looks(120)
    runs = [fit.fit(logits, "softmax", knees, described, method="ordinal", fingerprint="") for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())


def test_a_split_that_is_too_small_says_so(simulate, looks):
    logits, grade, patient = simulate(49)
    knees = {"grade": grade.tolist(), "patient": patient}
    record, tensors = fit.fit(logits, "softmax", knees, looks(98), method="temperature", fingerprint="")
    reason = "49 patients with labelled knees in the validation split, at least 50 are needed"
    assert record.to_plain() == {key: {"left_out": reason} for key in ON_DISK}
    assert tensors == {}
    assert fit.in_words(record.calibration).startswith(f"not calibrated: {reason}; ")
    assert stored.wrong(record.to_plain(), None) == ""
    assert fit.too_little(np.zeros(200, int), np.arange(200)) == "all knees of the validation split have grade 0"


def test_knees_of_unknown_grade_are_omitted(simulate, looks):
    logits, grade, patient = simulate(60)
    hidden = np.append(grade, [-1, -1])
    more = torch.cat([logits, torch.full((2, 5), 9.0)])
    described = looks(122)
    known = {name: values[:120] for name, values in described.items()}
    one = fit.fit(logits, "softmax", {"grade": grade.tolist(), "patient": patient}, known, method="temperature",
                  fingerprint="")  # fmt: skip
    other = fit.fit(more, "softmax", {"grade": hidden.tolist(), "patient": [*patient, "x", "y"]}, described,
                    method="temperature", fingerprint="")  # fmt: skip
    assert one[0] == other[0]


@pytest.fixture(scope="module")
def computed(fitted, simulate, looks):
    def run(seed=5, fingerprint="other", described=True, **options):
        logits, grade, patient = simulate(120, seed)
        knees = {"grade": grade.tolist(), "patient": patient}
        read, look = options.pop("read", fitted), looks(240) if described else None
        settings = {"alpha": 0.1, "refer_below": 0.5, **options}
        return summary.evaluate(read, logits, knees, look, fingerprint=fingerprint, **settings)

    return run


def test_on_another_split(fitted, simulate, computed):
    found = computed()
    logits, grade, _ = simulate(120, 5)
    p = calibrated(fitted, logits).numpy()
    assert found["calibration"]["measured"] == summary.APART
    assert found["calibration"]["after"]["log_loss"] == pytest.approx(
        -np.log(p[np.arange(240), grade].astype(float)).mean(), abs=1e-6
    )
    assert found["calibration"]["after"]["ece"] < found["calibration"]["before"]["ece"]
    for bins in (found["calibration"]["bins"], found["calibration"]["bins_oa"]):
        assert sum(row["n"] for row in bins["before"]) == sum(row["n"] for row in bins["after"]) == 240
    assert found["conformal"]["coverage"] == pytest.approx(0.9, abs=0.08)
    graded = p.max(1) >= 0.5
    assert found["abstention"]["coverage_at_threshold"] == pytest.approx(graded.mean())
    assert found["abstention"]["risk_at_threshold"] == pytest.approx((p.argmax(1) != grade)[graded].mean())
    assert found["inputs"]["n_inputs"] == 240
    assert json.loads(json.dumps(found)) == found
    assert {"raw/ece", "calibrated/ece", "aurc", "set_coverage", "foreign_share"} <= set(summary.numbers(found))
    lines = summary.in_words(found)
    assert len(lines) == 4 and "below 0.500" in lines[2]


def test_on_its_own_split_it_is_cross_fitted_and_says_so(fitted, simulate, computed):
    found = computed(seed=0, fingerprint="abc")
    assert found["calibration"]["measured"] == found["conformal"]["measured"] == summary.CROSS_FITTED
    logits, grade, _ = simulate(120, 0)
    inside = -np.log(calibrated(fitted, logits).numpy()[np.arange(240), grade]).mean()
    assert found["calibration"]["after"]["log_loss"] > inside  # fitted and evaluated on the same knees
    assert found["calibration"]["after"]["log_loss"] == pytest.approx(
        fitted.record.fitted.calibration.cross_fitted_log_loss["temperature"]
    )
    assert found["conformal"]["coverage"] == pytest.approx(0.9, abs=0.03)
    assert found["inputs"]["n_flagged"] / 240 == fitted.record.fitted.out_of_distribution.flagged < 0.07


def test_of_a_checkpoint_that_has_nothing(computed):
    nothing = stored.Fitted.left_out("6 patients")
    for entries, reason in ((nothing, "6 patients"), (stored.Fitted(), "this checkpoint has none")):
        read = as_read(entries, {})
        found = computed(read=read, described=False)
        assert found["calibration"]["left_out"] == reason
        assert found["conformal"]["left_out"] == reason
        assert found["calibration"]["before"] == found["calibration"]["after"]
        assert found["abstention"]["aurc"] > 0
        assert "left_out" in found["inputs"]
        lines = summary.in_words(found)
        assert lines[0].startswith(f"calibration: none ({reason})")
        assert set(summary.numbers(found)) >= {"aurc"}


def test_what_predict_says(fitted, simulate, looks):
    logits, _, _ = simulate(10, 9)
    p = calibrated(fitted, logits).numpy()
    described = looks(20)
    described["picture"][3] += 50
    rows = referral.columns(fitted, logits, p, described, alpha=0.1, refer_below=0.5)
    assert list(rows.columns) == referral.COLUMNS
    assert rows["foreign"].tolist()[3] == "yes"
    assert rows["refer"][3].startswith("refer to a reader: out-of-distribution input (")
    unsure = p.max(1) < 0.5
    assert rows["refer"].str.contains("unsure").tolist() == unsure.tolist()
    assert ((rows["set_low"] <= p.argmax(1)) & (p.argmax(1) <= rows["set_high"])).all()
    wide = referral.columns(fitted, logits, p, None, alpha=0.02, refer_below=0.0)
    assert ((wide["set_low"] <= rows["set_low"]) & (wide["set_high"] >= rows["set_high"])).all()
    assert (wide["foreign"] == "").all() and (wide["refer"] == "").all()
    values = referral.as_json(rows.to_dict("records")[3])
    assert values["foreign"] is True and values["foreign_score"] > 1
    lines = referral.warnings(fitted.record.fitted, rows, 0.5)
    assert any("of 20 inputs look out-of-distribution" in line for line in lines)


def test_what_predict_says_without_calibration(simulate):
    logits, _, _ = simulate(5)
    read = as_read(stored.Fitted(), {})
    rows = referral.columns(
        read, logits, outputs.probabilities(logits, "softmax").numpy(), None, alpha=0.1, refer_below=0.0
    )
    assert referral.as_json(rows.to_dict("records")[0]) == {
        "set": None, "set_low": None, "set_high": None, "foreign": None, "foreign_score": None,
        "acquisition": None, "refer": "",
    }  # fmt: skip
    assert "koa_lightning.calibrate ckpt=FILE" in referral.warnings(stored.Fitted(), rows, 0.0)[0]
    assert "6 patients" in referral.warnings(stored.Fitted.left_out("6 patients"), rows, 0.0)[0]


def test_thresholds(fitted):
    assert referral.threshold(fitted.record.fitted, None, None) == 0
    assert referral.threshold(fitted.record.fitted, 0.6, None) == 0.6
    assert 0 < referral.threshold(fitted.record.fitted, None, 0.3) < 1
    with pytest.raises(InputError, match=r"refer_below=0\.6 and refer_risk=0\.1: give only one of them"):
        referral.threshold(fitted.record.fitted, 0.6, 0.1)
    with pytest.raises(InputError, match=r"no risk curve \(written by an older version"):
        referral.threshold(stored.Fitted(), None, 0.1)


@pytest.mark.parametrize(("n", "enough"), [(49, False), (50, True)])
def test_how_many_patients_are_enough(n, enough):
    grade, group = np.arange(2 * n) % 2, np.arange(2 * n) // 2
    assert (fit.too_little(grade, group) == "") == enough
    assert fit.too_little(np.full(2 * n, 3), group) != ""


def test_a_recalibration_that_is_only_as_good_is_not_kept():
    assert fit._winner("temperature", {"none": 1.0, "temperature": 1.0}) == "none"
    assert fit._winner("temperature", {"none": 1.0, "temperature": 0.999}) == "temperature"


def test_auto_takes_the_lowest_cross_fitted_log_loss():
    losses = {"none": 1.0, "temperature": 0.9, "ordinal": 0.8, "bias": 0.85}
    assert fit._winner("auto", losses) == "ordinal"
    assert fit._winner("auto", dict.fromkeys(losses, 1.0)) == "none"


def test_auto_says_what_it_chose_and_what_grade_1_gains(simulate, looks):
    logits, grade, patient = simulate(200)
    shy = logits - 1.5 * torch.eye(5)[1]
    knees = {"grade": grade.tolist(), "patient": patient}
    entry = fit.fit(shy, "softmax", knees, looks(len(grade)), method="auto", fingerprint="")[0].calibration
    losses, recall = entry.cross_fitted_log_loss, entry.cross_fitted_recall_1
    assert entry.method == min(losses, key=losses.get) == "bias" and entry.lost is None
    assert recall["bias"] > recall["none"]
    assert f"recall of grade 1 {recall['none']:.2f} -> {recall['bias']:.2f}" in fit.in_words(entry)
    assert stored.Calibration.wrong(entry.to_plain()) == ""


def test_auto_of_what_cannot_be_improved_is_none(looks):
    rng = np.random.default_rng(1)
    grade, patient = rng.integers(0, 5, 120), [f"p{i // 2}" for i in range(120)]
    logits = torch.tensor(np.bincount(grade, minlength=5) / 120).log().float().repeat(120, 1)
    knees = {"grade": grade.tolist(), "patient": patient}
    entry = fit.fit(logits, "softmax", knees, looks(120), method="auto", fingerprint="")[0].calibration
    assert entry.method == "none" and "does not lower the cross-fitted log loss" in entry.lost


def test_an_entry_that_an_older_version_fitted_is_read():
    losses = {"none": 1.0, "temperature": 0.9, "ordinal": 0.95}
    entry = {"method": "temperature", "parameters": {"temperature": 1.1}, "cross_fitted_log_loss": losses}
    assert stored.Calibration.wrong(entry) == ""
    for wrong in ({"none": 1.0}, {**losses, "magic": 1.0}, {**losses, "none": "x"}, [1.0]):
        assert "cross_fitted_log_loss" in stored.Calibration.wrong({**entry, "cross_fitted_log_loss": wrong})
        assert "cross_fitted_recall_1" in stored.Calibration.wrong({**entry, "cross_fitted_recall_1": wrong})
