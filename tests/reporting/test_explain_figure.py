import pytest
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import using
from koa_lightning.reporting.explain_figure import explanations_figure
from koa_lightning.reporting.saving import save
from tests.fixtures.figure_checks import PRINTED, faults


def control_test(verdict="passed", **more):
    numbers = {"map": 0.3, "random": 0.2, "centre": 0.1, "difference": 0.1, "low": 0.05, "high": 0.15}
    return {**numbers, "against": "random", "n": 30, "verdict": verdict, **more}


def results(**changes):
    curve = {name: [0.9 - 0.08 * step for step in range(11)] for name in ("map", "random", "centre")}
    shortcut = {f"{name}{end}": 0.5 for name in ("kappa", "without_joint", "only_joint", "survives")
                for end in ("", "_low", "_high")}  # fmt: skip
    layers = [{"layer": name, "similarity": 0.1, "low": 0.0, "high": 0.2} for name in ("classifier", "conv_stem")]
    made = {
        "n": 30, "n_patients": 25, "target": "grade",
        "faithfulness": {"deletion": control_test(curve=curve), "insertion": control_test("failed", curve=curve),
                         "road": control_test("not judged", low=None, high=None)},
        "sanity": {"layers": layers, "verdict": "passed"},
        "noise": {"similarity": 0.93, "verdict": "passed"},
        "localisation": {"region": "joint band", "area": 0.24, "share": control_test()},
        "shortcut": {**shortcut, "verdict": "failed", "reason": ""},
    }  # fmt: skip
    return {**made, **changes}


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_the_figure_says_each_verdict_and_what_decided(tmp_path):
    figure = explanations_figure(results(), "Grad-CAM of the predicted grade", ["phantom data"])
    words = texts(figure)
    assert {"phantom data", DISCLAIMER} <= set(words)
    assert "Tests of Grad-CAM of the predicted grade (30 knees of 25 patients)" in words
    assert (words.count("passed"), words.count("failed"), words.count("not judged")) == (3, 2, 1)
    below = " ".join(" ".join(words).split())
    assert "against random +0.100 (+0.050 to +0.150; above 0 is better)" in below
    assert "too few patients for an interval" in words
    assert "under noise 0.93: passed" in below
    assert "without the joint 50% survives (50% to 50%; at most 50%)" in below
    [file] = save(figure, tmp_path / "a.png")
    assert file.stat().st_size > 0


@pytest.mark.slow
def test_what_is_undefined_is_said(tmp_path):
    nothing = dict.fromkeys(("map", "random", "centre", "difference", "low", "high"))
    share = {**nothing, "against": "random", "n": 0, "verdict": "not judged"}
    short = results()["shortcut"] | dict.fromkeys(
        ("survives", "survives_low", "survives_high", "kappa_low", "kappa_high")
    )
    layers = [{"layer": "fc", "similarity": 0.1, "low": None, "high": None}]
    made = results(
        localisation={"region": "signs of the phantom", "area": None, "share": share},
        shortcut={**short, "reason": "no better than chance, so nothing can be lost"},
        sanity={"layers": layers, "verdict": "not judged"},
        target="expected",
    )
    words = texts(figure := explanations_figure(made, "CAM"))
    assert "no better than chance, so nothing can be lost" in " ".join(" ".join(words).split())
    assert words.count("none") == 3
    assert "expected grade" in words
    save(figure, tmp_path / "a.png")


@pytest.mark.sample(1)
@pytest.mark.parametrize("printed", PRINTED)
def test_it_is_fit_for_print(printed):
    layers = [{"layer": f"blocks.{i}.0", "similarity": 0.9 - 0.05 * i, "low": 0.8, "high": 1.0} for i in range(17)]
    made = results(sanity={"layers": layers, "verdict": "passed"})
    with using(printed):
        assert faults(explanations_figure(made, "Grad-CAM of the predicted grade", ["phantom data"])) == []
