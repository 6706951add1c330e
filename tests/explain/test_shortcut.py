import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from koa_lightning.explain.localisation import joint_band
from koa_lightning.explain.shortcut import hide, shortcut
from koa_lightning.explain.verdict import FAILED, PASSED, UNKNOWN

N, SIZE = 60, 32
PATIENTS = [f"p{n // 2}" for n in range(N)]
BANDS = [joint_band((SIZE, SIZE))] * N
SIGN = {"joint": (slice(15, 21), slice(10, 22)), "corner": (slice(0, 6), slice(0, 12))}


def knees(place):
    """Grades told by the brightness of one place, on gray noise."""
    rng = np.random.default_rng(0)
    grades = np.arange(N) % 5
    images = rng.integers(100, 110, (N, 1, SIZE, SIZE)).astype(np.uint8)
    images[(slice(None), 0, *SIGN[place])] = (20 + 50 * grades)[:, None, None]
    return torch.from_numpy(images), grades


def grader(place):
    """Reads that brightness."""

    def logits(images):
        seen = (images[(slice(None), 0, *SIGN[place])].mean((1, 2)) * 255 - 20) / 50
        return -10 * (seen[:, None] - torch.arange(5)) ** 2

    return logits


def test_who_grades_the_joint_loses_everything_without_it():
    images, grades = knees("joint")
    result = shortcut(grader("joint"), images, grades, PATIENTS, BANDS, "softmax")
    assert (result["kappa"], result["only_joint"], result["verdict"]) == (1, 1, PASSED)
    assert abs(result["without_joint"]) < 0.1
    assert result["survives"] == pytest.approx(result["without_joint"] / result["kappa"])
    assert result["survives_low"] <= result["survives"] <= result["survives_high"] < 0.5
    assert (result["survives_only_joint"], result["n"], result["reason"]) == (1, N, "")


def test_who_grades_a_marker_in_the_corner_fails():
    images, grades = knees("corner")
    result = shortcut(grader("corner"), images, grades, PATIENTS, BANDS, "softmax")
    assert (result["kappa"], result["without_joint"], result["survives"], result["verdict"]) == (1, 1, 1, FAILED)
    assert abs(result["only_joint"]) < 0.1


def test_who_cannot_grade_has_nothing_to_lose():
    images, grades = knees("joint")
    result = shortcut(grader("corner"), images, grades, PATIENTS, BANDS, "softmax")
    assert result["verdict"] == FAILED
    assert "no better than chance" in result["reason"]
    assert result["survives"] is None
    assert result["blur"]["survives_high"] is None


def test_the_kappa_is_scikit_learns():
    images, grades = knees("joint")
    generator = torch.Generator().manual_seed(0)

    def guess(some):
        return grader("joint")(some) + 30 * torch.randn(len(some), 5, generator=generator)

    generator.manual_seed(1)
    predicted = guess(images.float() / 255).argmax(1).numpy()
    generator.manual_seed(1)
    result = shortcut(guess, images, grades, PATIENTS, BANDS, "softmax")
    assert result["kappa"] == pytest.approx(cohen_kappa_score(grades, predicted, weights="quadratic"))
    assert result["kappa_low"] < result["kappa"] < result["kappa_high"]


def test_too_few_patients():
    images, grades = knees("joint")
    result = shortcut(grader("joint"), images[:10], grades[:10], PATIENTS[:10], BANDS[:10], "softmax")
    assert result["verdict"] == UNKNOWN


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_what_is_hidden_does_not_show_and_the_rest_stays(fill):
    images = torch.rand(3, 1, 64, 64)
    other = images.clone()
    region = joint_band((64, 64))[None]
    inside = torch.from_numpy(region[0])
    shown = hide(images, region, fill)
    assert torch.equal(hide(images, np.repeat(region, 3, 0), fill), shown)
    far = torch.from_numpy(joint_band((64, 64)))
    far = torch.nn.functional.max_pool2d(far[None, None].float(), 19, 1, 9)[0, 0] == 0
    np.testing.assert_allclose(shown[:, 0, far], images[:, 0, far], atol=1e-5)
    assert shown[:, 0, inside].std() < 0.15 * images.std()
    if fill == "mean":
        other[:, 0, inside] = 1 - other[:, 0, inside]
        np.testing.assert_allclose(hide(other, region, fill), shown, atol=1e-6)
        np.testing.assert_allclose(shown[:, 0, 32, 32], [each[0, ~inside].mean() for each in images], rtol=1e-4)


def test_each_knee_has_a_joint_of_its_own():
    grades = np.arange(N) % 5
    images, bands = torch.full((N, 1, SIZE, SIZE), 90, dtype=torch.uint8), []
    for n, grade in enumerate(grades):
        rows = slice(4, 12) if n % 2 else slice(18, 26)
        bands.append(np.zeros((SIZE, SIZE), bool))
        bands[n][rows] = True
        images[n, 0, rows] = int(100 + 30 * grade)

    def logits(some):
        seen = (some.amax((1, 2, 3)) * 255 - 100) / 30
        return -10 * (seen[:, None] - torch.arange(5)) ** 2

    result = shortcut(logits, images, grades, PATIENTS, bands, "softmax")
    assert (result["kappa"], result["without_joint"], result["verdict"]) == (1, 0, PASSED)
    swapped = shortcut(logits, images, grades, PATIENTS, bands[1:] + bands[:1], "softmax")
    assert (swapped["without_joint"], swapped["verdict"]) == (1, FAILED)


def test_where_no_joint_is_seen_nothing_is_judged():
    images, grades = knees("joint")
    nowhere = [np.zeros((SIZE, SIZE), bool)] * N
    result = shortcut(grader("joint"), images, grades, PATIENTS, nowhere, "softmax")
    assert (result["kappa"], result["survives"], result["verdict"]) == (1, None, UNKNOWN)
    assert "no part of the joint" in result["reason"]
