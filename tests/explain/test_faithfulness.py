import numpy as np
import pytest
import torch

from koa_lightning.explain import controls, faithfulness
from koa_lightning.explain.faithfulness import ROAD_SHARES, STEPS, area, blurred, curve, filled_in
from koa_lightning.explain.verdict import FAILED, PASSED


@pytest.fixture
def maps(window_subject):
    n, shape = len(window_subject), window_subject.shape
    return {
        "map": window_subject.maps(),
        "random": controls.random_maps(n, (8, 8), shape, 0),
        "centre": controls.centre_maps(n, shape),
    }


@pytest.mark.slow
def test_a_map_of_what_matters_passes_and_says_by_how_much(window_subject, maps):
    results, knees = faithfulness.faithfulness(window_subject, maps, n_road=20)
    assert {name: test["verdict"] for name, test in results.items()} == dict.fromkeys(
        ("deletion", "insertion", "road"), PASSED
    )
    deletion = results["deletion"]
    assert deletion["map"] < min(deletion["random"], deletion["centre"])
    assert deletion["difference"] == pytest.approx(deletion[deletion["against"]] - deletion["map"])
    assert results["insertion"]["map"] > max(results["insertion"]["random"], results["insertion"]["centre"])
    whole = window_subject.scores(window_subject.images).mean()
    assert deletion["curve"]["map"][0] == pytest.approx(whole, rel=1e-5)
    assert results["insertion"]["curve"]["map"][-1] == pytest.approx(whole, rel=1e-5)
    assert all(len(each) == STEPS + 1 for test in ("deletion", "insertion") for each in results[test]["curve"].values())
    assert np.isnan(knees["road_map"][20:]).all()
    assert np.isfinite(knees["road_map"][:20]).all()
    assert results["road"]["n"] == 20
    assert knees["deletion_map"].mean() == pytest.approx(deletion["map"])


def test_a_map_of_anything_else_fails(window_subject, maps):
    elsewhere = maps | {"map": controls.random_maps(len(window_subject), (8, 8), window_subject.shape, 7)}
    results, _ = faithfulness.faithfulness(window_subject, elsewhere, n_road=20)
    assert [test["verdict"] for test in results.values()] == [FAILED] * 3
    inside_out = maps | {"map": 1 - maps["map"]}
    results, _ = faithfulness.faithfulness(window_subject, inside_out, n_road=20)
    assert results["deletion"]["high"] < 0
    assert results["insertion"]["high"] < 0


def test_curves_by_hand(window_subject, window_mask):
    """The window is 1/16 of the picture: it is gone at the first step, and the answer with it."""
    places = controls.ranks(np.repeat(window_mask[None].astype(np.float32), 24, 0), 0)
    ended = curve(window_subject, places, "deletion")
    means = window_subject.images.mean((2, 3))[:, 0]
    logit = torch.stack([3 + 0 * means, 0 * means, 0 * means, 0 * means, 100 * means / 16], 1)
    np.testing.assert_allclose(ended[:, 1], logit.softmax(1)[:, 4], rtol=1e-4)
    np.testing.assert_allclose(ended[:, -1], ended[:, 1], rtol=1e-5)
    assert (ended[:, 0] > ended[:, 1]).all()
    back = curve(window_subject, places, "insertion")
    np.testing.assert_allclose(back[:, 1], ended[:, 0], rtol=1e-5)
    assert (back[:, 0] < back[:, 1]).all()


def test_area_is_that_of_trapezes():
    curves = np.random.default_rng(0).random((5, 11))
    np.testing.assert_allclose(area(curves), np.trapezoid(curves, dx=0.1, axis=1))
    np.testing.assert_allclose(area(np.ones((1, 11))), 1)


def test_blur_keeps_the_mean_and_loses_the_detail():
    image = torch.rand(2, 1, 40, 40)
    soft = blurred(image, 0.1)
    assert soft.std() < 0.2 * image.std()
    np.testing.assert_allclose(soft.mean((2, 3)), image.mean((2, 3)), atol=0.02)


def test_holes_are_filled_from_their_surroundings():
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 32, 32).contiguous()
    hole = np.zeros((32, 32), bool)
    hole[10:20, 8:25] = True
    filled = filled_in(ramp, hole, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(filled[0][~hole], ramp[0][~hole])
    error = (filled - ramp)[0][hole].numpy()  # a ramp is its own mean of neighbours
    assert abs(error.mean()) < 0.005
    assert 0.005 < error.std() < 0.02
    again = filled_in(ramp, hole, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(again, filled)


def test_holes_are_filled_as_by_the_library():
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    image = torch.rand(1, 24, 24)
    hole = np.random.default_rng(0).random((24, 24)) < 0.5
    theirs = NoisyLinearImputer(noise=0)(image, torch.from_numpy((~hole).astype(np.float32)))
    ours = filled_in(image, hole, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(ours, theirs, atol=0.06)  # six deviations of our noise
    assert abs(float((ours - theirs)[0][hole].mean())) < 0.003


def test_road_is_that_of_the_library(window_subject):
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer, RemoveLeastRelevantFirst, RemoveMostRelevantFirst

    few = window_subject.first(3)
    heat = controls.random_maps(3, (8, 8), few.shape, 3)
    places = controls.ranks(heat, 0)
    expected = np.zeros(3)
    for share in ROAD_SHARES:
        for sign, kind, percentile in (
            (-1, RemoveMostRelevantFirst, 100 * (1 - share)),
            (1, RemoveLeastRelevantFirst, 100 * (1 - share)),
        ):
            remove = kind(percentile, NoisyLinearImputer(noise=0))
            pairs = zip(few.images, torch.from_numpy(1 - places), strict=True)
            expected += sign * few.scores(torch.stack([remove(image, mask) for image, mask in pairs]).clamp(0, 1))
    np.testing.assert_allclose(faithfulness.road(few, places, 0), expected / (2 * len(ROAD_SHARES)), atol=0.01)
