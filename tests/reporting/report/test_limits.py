import dataclasses

from koa_lightning.reporting.report import limits


def test_limits_follow_from_the_run(full, bare):
    said = " ".join(limits.limits(full))
    assert "share one source" in said and "Grade 0, 1, 2, 3, 4: fewer than 30 knees" in said
    assert "No audit" not in said
    data = {**full.about["data"], "part": "val", "n_trained_on": None}
    said = " ".join(
        limits.limits(dataclasses.replace(full, about={**full.about, "data": data, "marks": ["phantom data"]}))
    )
    assert said.startswith("The knees are synthetic")
    assert "which chose the epoch" in said and "the training manifest is missing" in said
    said = " ".join(limits.limits(bare))
    assert "The model is unknown" in said and "not recalibrated" in said and "No audit was given" in said
