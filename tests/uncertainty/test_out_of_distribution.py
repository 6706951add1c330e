from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from koa_lightning.checkpoint import reference
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.models.net import NetSpec, build
from koa_lightning.uncertainty import gaussian, orientation, out_of_distribution, patients

SIZE = 64


def look(net, images):
    batches = [torch.from_numpy(images[start : start + 64]).unsqueeze(1) for start in range(0, len(images), 64)]
    with out_of_distribution.watching(net) as seen, torch.no_grad():
        for batch in batches:
            net(net.normalise(batch))
    return out_of_distribution.describe(batches, seen)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build(NetSpec("test_efficientnet")).eval()


@pytest.fixture(scope="module")
def knees():
    rows = phantom_manifest(160, 3)
    drawn = draw_phantoms(rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=3, size=SIZE)
    return np.asarray(drawn), patients.groups(rows["patient"].tolist())


@pytest.fixture(scope="module")
def fitted(net, knees):
    images, group = knees
    return out_of_distribution.fit(look(net, images[group < 120]), group[group < 120])


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))
        yield import_module("benchmarks.out_of_distribution")


def test_what_is_no_knee_is_flagged_and_what_is_turned(net, knees, fitted, benchmark):
    images, group = knees
    rest = images[group >= 120]
    familiar, _ = out_of_distribution.scores(look(net, rest), fitted)
    assert (familiar > 1).mean() < 0.1
    for kind, pictures in {**benchmark.strangers(20, SIZE), **benchmark.turned(rest)}.items():
        score, worst = out_of_distribution.scores(look(net, pictures), fitted)
        is_strange = np.repeat([0, 1], [len(rest), len(pictures)])
        assert roc_auc_score(is_strange, np.concatenate([familiar, score])) >= 0.95, kind
        assert set(worst) <= set(out_of_distribution.COMPONENTS)


@pytest.mark.parametrize(
    ("found", "score", "acquisition"),
    [
        ({"features": 1.01}, 1.01, ""),
        ({"posture": 1.01}, 1.01, ""),
        ({"picture": 1.01}, 0.505, "picture"),
        ({"texture": 1.9, "picture": 1.2}, 0.95, "texture"),
        ({"texture": 2.02}, 1.01, "texture"),
        ({"picture": 1.0, "features": 1.0}, 1.0, ""),
        ({"picture": 1.5, "features": 1.2}, 1.2, "picture"),
    ],
)
def test_another_acquisition_is_not_no_knee(found, score, acquisition, monkeypatch):
    said = {component: np.array([found.get(component, 0.1)]) for component in out_of_distribution.COMPONENTS}
    monkeypatch.setattr(out_of_distribution, "by_component", lambda described, tensors: said)
    assert out_of_distribution.scores({}, {})[0] == pytest.approx([score])
    assert out_of_distribution.acquisitions({}, {}) == [acquisition]


def test_few_of_its_own_kind(net, knees):
    images, group = knees
    described = look(net, images)
    tensors = out_of_distribution.fit(described, group)
    ratios, limits = out_of_distribution.cross_fitted(described, group)
    assert (ratios > 1).mean() < 0.05
    for component, limit in limits.items():
        assert float(tensors[f"{component}.limit"]) == pytest.approx(limit, rel=1e-5)
    assert reference.wrong(tensors) == ""
    assert list(out_of_distribution.by_component(described, tensors)) == list(out_of_distribution.COMPONENTS)


def test_some_inverted_knees_in_the_fit_do_no_harm(net, knees):
    images, group = knees
    dirty = images[group < 120].copy()
    dirty[::60] = 255 - dirty[::60]
    tensors = out_of_distribution.fit(look(net, dirty), group[group < 120])
    score, worst = out_of_distribution.scores(look(net, 255 - images[group >= 120]), tensors)
    assert (score > 1).mean() > 0.95
    assert worst.count("posture") > 0


def test_constant_descriptions_are_no_division_by_zero():
    values = np.ones((60, 5))
    values[:, 0] = np.arange(60)
    distance = gaussian.distance(values, gaussian.fit(values))
    assert np.isfinite(distance).all()
    blank = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    assert all(
        np.isfinite(component).all()
        for component in out_of_distribution.describe([blank], [torch.zeros(3, 2)]).values()
    )


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
def test_pooled_features_of_any_network(name):
    net = build(NetSpec(name, image_size=160 if "vit" in name else None)).eval()
    side = 160 if "vit" in name else SIZE
    with out_of_distribution.watching(net) as seen, torch.no_grad():
        net(torch.zeros(2, 1, side, side))
    assert [len(features) for features in seen] == [2]
    assert seen[0].ndim == 2
    assert not net.last_map._forward_hooks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("picture.mean"), "its entries are not"),
        (lambda t: t.update({"picture.mean": [1.0]}), "not all entries are float32"),
        (lambda t: t.update({"texture.mean": torch.zeros(3)}), "texture: its shapes"),
        (lambda t: t.update({"picture.rest": torch.tensor(0.0)}), "picture: its scales are not positive"),
        (lambda t: t.update({"texture.limit": torch.tensor(0.0)}), "texture.limit is too small"),
        (lambda t: t.update({"texture.limit": torch.ones(2)}), "texture.limit is not one number"),
        (lambda t: t["features.prototypes"].fill_(float("nan")), "features.prototypes is not finite"),
        (lambda t: t.update({"features.prototypes": torch.zeros(0, 5)}), "features: its shapes"),
        (lambda t: t.update({"posture.offsets": torch.zeros(3)}), "posture: its shapes"),
        (lambda t: t.update({"posture.limit": torch.tensor(0.5)}), "posture.limit is too small"),
        (lambda t: t.update({"picture.directions": torch.zeros(600, 500)}), "more than 250000"),
    ],
)
def test_tensors_that_are_not_ours(fitted, change, words):
    tensors = {name: value.clone() for name, value in fitted.items()}
    change(tensors)
    assert words in reference.wrong(tensors)
    assert reference.wrong([]) != ""


def test_they_are_small(fitted):
    assert sum(value.nbytes for value in fitted.values()) < 1_000_000


def test_pictures_that_have_no_posture_are_not_said_to_be_turned():
    rng = np.random.default_rng(0)
    parts = {"picture": 196, "texture": 18, "features": 30}
    described = {component: rng.normal(size=(200, size)) for component, size in parts.items()}
    more = {component: rng.normal(size=(200, size)) for component, size in parts.items()}
    said = out_of_distribution.by_component(more, out_of_distribution.fit(described, np.arange(200) // 2))
    assert (said["posture"] > 1).mean() < 0.1
    assert np.isfinite(orientation.ratio(np.zeros((2, 196)), orientation.fit(np.zeros((60, 196))))).all()
