import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit

from koa_lightning.checkpoint.fitted import Calibration, LeftOut
from koa_lightning.models import outputs
from koa_lightning.uncertainty import calibration, patients, recalibrated, reliability

LOGITS = arrays(np.float32, (4, 5), elements=st.floats(-30, 30, width=32))
TEMPERATURE = Calibration(method="temperature", parameters={"temperature": 2.5})
ORDINAL = Calibration(method="ordinal", parameters={"scale": 0.6, "shift": -0.4})


BIASES = ("bias_1", "bias_2", "bias_3", "bias_4")


@pytest.mark.parametrize("link", ["softmax", "corn"])
def test_without_calibration_they_are_the_raw_ones(link):
    logits = torch.randn(20, outputs.n_outputs(link), generator=torch.Generator().manual_seed(0))
    raw = outputs.probabilities(logits, link)
    for entry in (None, LeftOut("too small"), Calibration(method="none")):
        assert torch.equal(recalibrated.probabilities(logits, link, entry), raw)
    for neutral in (
        ("temperature", {"temperature": 1.0}),
        ("ordinal", {"scale": 1.0, "shift": 0.0}),
        ("bias", {"scale": 1.0, **dict.fromkeys(BIASES, 0.0)}),
    ):
        entry = Calibration(method=neutral[0], parameters=neutral[1])
        assert torch.allclose(recalibrated.probabilities(logits, link, entry), raw, atol=1e-6)


@given(LOGITS, st.floats(0.05, 20), st.floats(-10, 10))
def test_always_probabilities(values, scale, shift):
    for method, parameters in (
        ("temperature", {"temperature": scale}),
        ("ordinal", {"scale": scale, "shift": shift}),
        ("bias", {"scale": scale, **dict.fromkeys(BIASES, shift)}),
    ):
        entry = Calibration(method=method, parameters=parameters)
        for logits, link in ((values, "softmax"), (values[:, :4], "corn")):
            p = recalibrated.probabilities(torch.from_numpy(logits), link, entry)
            assert p.dtype == torch.float32
            assert bool(((p >= 0) & (p <= 1)).all())
            assert torch.allclose(p.sum(1), torch.ones(4), atol=1e-4)


@given(LOGITS)
def test_temperature_leaves_the_most_probable_grade(values):
    logits = torch.from_numpy(values)
    p = recalibrated.probabilities(logits, "softmax", TEMPERATURE)
    best = logits.max(1).values
    assert torch.allclose(logits.gather(1, p.argmax(1)[:, None])[:, 0], best, rtol=0, atol=1e-5)  # of equal ones any


def test_temperature_is_softmax_of_divided_logits():
    logits = torch.randn(9, 5)
    assert torch.allclose(
        recalibrated.probabilities(logits, "softmax", TEMPERATURE), (logits / 2.5).softmax(1), atol=1e-6
    )


def test_ordinal_scales_and_shifts_each_cumulative_logit():
    logits = torch.randn(9, 5, dtype=torch.float64)
    reaches = torch.softmax(logits, 1).numpy()[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    wanted = expit(0.6 * logit(reaches) - 0.4)
    p = recalibrated.probabilities(logits, "softmax", ORDINAL).numpy()
    assert np.allclose(p[:, ::-1].cumsum(1)[:, ::-1][:, 1:], wanted, atol=1e-5)


def test_bias_is_the_maximum_likelihood_that_scipy_finds(simulate):
    logits, grade, _ = simulate(300)
    logs = log_softmax(logits.double().numpy(), 1)

    def loss(values):
        moved = log_softmax(np.exp(values[0]) * logs + np.concatenate([[0], values[1:]]), 1)
        return -moved[np.arange(len(grade)), grade].mean()

    found = calibration.fit(logits, "softmax", grade, "bias").parameters
    best = minimize(loss, np.zeros(5), method="Nelder-Mead", options={"maxiter": 10_000, "fatol": 1e-10, "xatol": 1e-7})
    assert loss([np.log(found["scale"]), *(found[name] for name in BIASES)]) == pytest.approx(best.fun, abs=1e-6)
    assert np.allclose([np.log(found["scale"]), *(found[name] for name in BIASES)], best.x, atol=5e-3)


def test_bias_gives_back_a_grade_that_is_named_too_seldom(simulate):
    logits, grade, _ = simulate(1500)
    shy = logits - 1.5 * torch.eye(5)[1]
    found = calibration.fit(shy, "softmax", grade, "bias")
    assert found.parameters["bias_1"] > 0.4
    own = grade == 1
    recall = [
        float((recalibrated.probabilities(shy, "softmax", entry).argmax(1).numpy()[own] == 1).mean())
        for entry in (None, found)
    ]
    assert recall[1] > recall[0] + 0.1


def test_log_probabilities_are_those_of_the_links():
    for link in outputs.LINKS:
        logits = torch.randn(30, outputs.n_outputs(link))
        assert torch.allclose(
            outputs.log_probabilities(logits, link).exp(), outputs.probabilities(logits, link), atol=1e-6
        )


def test_the_temperature_is_the_one_that_another_optimiser_finds(simulate):
    logits, grade, _ = simulate()

    def loss(log_temperature):
        return -log_softmax(logits.double().numpy() / np.exp(log_temperature), 1)[np.arange(len(grade)), grade].mean()

    found = calibration.fit(logits, "softmax", grade, "temperature")
    assert found.parameters["temperature"] == pytest.approx(np.exp(minimize_scalar(loss).x), rel=1e-4)
    assert found == calibration.fit(logits, "softmax", grade, "temperature")


def test_what_was_done_to_the_logits_is_found(simulate):
    logits, grade, _ = simulate(4000)
    temperature = calibration.fit(logits, "softmax", grade, "temperature").parameters["temperature"]
    assert temperature == pytest.approx(2.0, rel=0.06)
    done = Calibration(method="ordinal", parameters={"scale": 2.0, "shift": 1.0})
    right = recalibrated.probabilities(logits / 2, "softmax", done).clamp(min=1e-30).log()
    found = calibration.fit(right, "softmax", grade, "ordinal").parameters
    assert found["scale"] == pytest.approx(0.5, rel=0.06)
    assert found["shift"] == pytest.approx(-0.5, abs=0.1)


def test_calibration_helps_where_it_was_not_fitted(simulate):
    logits, grade, patient = simulate(400)
    group = patients.groups(patient)
    raw = reliability.scores(outputs.probabilities(logits, "softmax").numpy(), grade)
    for method in ("temperature", "ordinal"):
        after = reliability.scores(calibration.cross_fitted(logits, "softmax", grade, group, method).numpy(), grade)
        assert after["log_loss"] < raw["log_loss"]
        assert after["ece"] < raw["ece"] / 2


def test_each_knee_is_recalibrated_without_its_patient(simulate):
    logits, grade, patient = simulate(30)
    group = patients.groups(patient)
    other = grade.copy()
    other[:2] = 4 - other[:2]
    before, after = (calibration.cross_fitted(logits, "softmax", g, group, "temperature") for g in (grade, other))
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2:], after[2:])


def test_a_part_without_mistakes_has_an_end():
    logits = 5 * torch.eye(5).repeat(20, 1)
    entry = calibration.fit(logits, "softmax", np.arange(100) % 5, "temperature")
    assert calibration.LOWEST <= entry.parameters["temperature"] < 0.5
    assert Calibration.wrong(entry.to_plain()) == ""


def test_in_words():
    words = [calibration.in_words(each.method, each.parameters) for each in (TEMPERATURE, ORDINAL, Calibration())]
    assert words == ["temperature 2.500", "ordinal (scale 0.600, shift -0.400)", "none"]


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ({"temperature": 0.05}, True), ({"temperature": 20.0}, True), ({"temperature": 0.049}, False),
        ({"temperature": 20.1}, False), ({"temperature": 2}, False), ({"scale": 0.05, "shift": -10.0}, True),
        ({"scale": 20.0, "shift": 10.0}, True), ({"scale": 1.0, "shift": -10.1}, False),
        ({"scale": 1.0, "shift": 10.1}, False), ({"scale": float("nan"), "shift": 0.0}, False),
    ],
)  # fmt: skip
def test_the_ends_of_what_parameters_may_be(entry, ours):
    method = "temperature" if "temperature" in entry else "ordinal"
    assert (Calibration.wrong({"method": method, "parameters": entry}) == "") == ours
