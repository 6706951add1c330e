import dataclasses

from koa_lightning.reporting.report import uncertainty


def test_risk_at_a_coverage():
    assert uncertainty._risk_at([[0.5, 0.1], [0.75, 0.2], [1.0, 0.3]], 0.7) == 0.2
    assert uncertainty._risk_at([[0.5, 0.1]], 0.9) is None


def test_abstention_and_sets_say_what_they_do(full, words):
    assert "At the threshold 0.600, 80.0% of the knees are graded and 22.0% of these wrongly" in words(
        uncertainty.abstention(full)
    )
    assert "Nominal coverage 90%, observed coverage 91.7%" in words(uncertainty.conformal(full))
    assert "2 of 120 images (1.7%) look out-of-distribution" in words(uncertainty.inputs(full))
    left_out = dataclasses.replace(full, sections={**full.sections, "abstention": {"left_out": "no knee"}})
    assert "No risk-coverage curve: no knee." in words(uncertainty.abstention(left_out))
