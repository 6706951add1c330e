from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from koa_lightning.explain.sanity import (
    MOST_ALIKE,
    layers_of,
    noise,
    randomisation,
    randomise,
    randomise_all,
    similarity,
    take_statistics,
)
from koa_lightning.explain.subject import Subject
from koa_lightning.explain.verdict import FAILED, PASSED, UNKNOWN
from koa_lightning.models.net import NetSpec, build


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    net = build(NetSpec("test_efficientnet")).eval()
    images = torch.rand(12, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    return Subject(net, images, np.arange(12) % 5, tuple("abcdefghijkl"), "cam", batch_size=8)


class Picture(Subject):
    """Its maps show the picture, whatever the network."""

    def maps(self, images=None, net=None):
        return (self.images if images is None else images)[:, 0].numpy()


def test_a_map_that_comes_of_the_weights_passes_and_the_network_stays_as_it_was(subject):
    before = {name: each.clone() for name, each in subject.net.state_dict().items()}
    result = randomisation(subject, subject.maps(), repeats=3)
    assert result["verdict"] == PASSED
    assert [layer["layer"] for layer in result["layers"]] == [name for name, _ in layers_of(subject.net)]
    assert result["layers"][0]["layer"] == "classifier"
    assert all(layer["low"] <= layer["similarity"] <= layer["high"] for layer in result["layers"])
    assert max(abs(layer["similarity"]) for layer in result["layers"][:1]) < MOST_ALIKE
    torch.testing.assert_close(subject.net.state_dict(), before)
    assert not subject.net.training


def test_a_map_that_does_not_change_is_a_failed_test(subject):
    picture = Picture(*(getattr(subject, name) for name in ("net", "images", "grades", "patients")))
    result = randomisation(picture, picture.maps(), repeats=1)
    assert result["verdict"] == FAILED
    assert [layer["similarity"] for layer in result["layers"]] == pytest.approx([1.0] * len(result["layers"]))


def test_a_map_that_knows_no_classifier_fails(subject):
    blind = replace(subject, method="eigencam")
    result = randomisation(blind, blind.maps(), repeats=1)
    assert result["verdict"] == FAILED
    assert result["layers"][0]["similarity"] == pytest.approx(1)


def test_the_same_seed_gives_the_same_networks(subject):
    few = subject.first(3)
    assert randomisation(few, few.maps(), repeats=1) == randomisation(few, few.maps(), repeats=1)
    other = randomisation(few, few.maps(), repeats=1, seed=5)
    assert other["layers"] != randomisation(few, few.maps(), repeats=1)["layers"]
    assert other["verdict"] == UNKNOWN  # three patients


def test_noise(subject):
    result = noise(subject, subject.maps(), repeats=2)
    assert result["between_knees"] < result["similarity"] <= 1
    assert result["low"] <= result["similarity"] <= result["high"]
    still = Picture(*(getattr(subject, name) for name in ("net", "images", "grades", "patients")))
    assert noise(still, still.maps(), repeats=1)["verdict"] == PASSED
    unsteady = np.random.default_rng(0).random((12, 64, 64)).astype(np.float32)
    assert noise(still, unsteady, repeats=1)["verdict"] == FAILED
    assert noise(subject.first(4), subject.maps()[:4], repeats=1)["verdict"] == UNKNOWN


def test_similarity_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 28, 28)).astype(np.float32)
    b[1] = a[1] ** 3
    b[2] = -a[2]
    expected = [spearmanr(x.ravel().round(4), y.ravel().round(4)).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(similarity(a, b), expected, atol=1e-6)
    assert similarity(a, b)[1] > 0.99 and similarity(a, b)[2] == pytest.approx(-1)
    assert similarity(np.zeros((1, 28, 28), np.float32), a[:1]).tolist() == [0]


NAMES = ["efficientnet", "resnet", "convnext", "byobnet", "vit", "vit_relpos", "maxvit"]


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_in_a_layer_and_is_thrown_away(name):
    net = build(NetSpec(f"test_{name}", image_size=64)).eval()
    layers = layers_of(net)
    owned = [id(p) for _, parts in layers for part in parts for p in part.parameters()]
    assert sorted(owned) == sorted(id(p) for p in net.parameters())
    assert {id(p) for p in layers[0][1][0].parameters()} >= {id(p) for p in net.head_parameters()}
    before = {key: each.clone() for key, each in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand_like(parameter))
    for number, (_, parts) in enumerate(layers):
        for part in parts:
            randomise(part, number)
    after = net.state_dict()
    assert {"own"} & {label for label, _ in layers} == ({"own"} if list(net.net.parameters(recurse=False)) else set())
    same = [key for key, p in net.named_parameters() if p.ndim > 1 and torch.equal(before[key], after[key])]
    assert same == []
    images = torch.rand(8, 1, 64, 64)
    take_statistics(net, [part for _, parts in layers for part in parts], images, 4)
    assert not net.training and all(not module.training for module in net.modules())
    with torch.no_grad():
        assert net(net.normalise(images)).isfinite().all()


def test_a_network_that_is_random_throughout_answers_with_numbers_and_otherwise(subject):
    net = build(NetSpec("test_efficientnet")).eval()
    net.load_state_dict(subject.net.state_dict())
    randomise_all(net, subject.images, 8)
    with torch.no_grad():
        new, old = (each(each.normalise(subject.images)) for each in (net, subject.net))
    assert new.isfinite().all()
    assert not torch.allclose(new, old, atol=1e-2)


def test_statistics_are_those_of_the_images():
    torch.manual_seed(0)
    net = build(NetSpec("test_efficientnet")).eval()
    stem = net.net.bn1
    images = torch.rand(6, 1, 64, 64)
    seen = []
    handle = net.net.conv_stem.register_forward_hook(lambda module, args, output: seen.append(output))
    take_statistics(net, [stem], images, 6)
    handle.remove()
    torch.testing.assert_close(stem.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert stem.momentum == build(NetSpec("test_efficientnet")).net.bn1.momentum
