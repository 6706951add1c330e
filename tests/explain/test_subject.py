import numpy as np
import pytest
import torch

from koa_lightning.explain.subject import Subject
from koa_lightning.models import outputs
from koa_lightning.models.net import NetSpec, build


@pytest.fixture
def given():
    """How many images went through the network, pass by pass."""
    return []


@pytest.fixture
def subject(given):
    torch.manual_seed(0)
    net = build(NetSpec("test_efficientnet")).eval()
    images = torch.rand(7, 1, 48, 40, generator=torch.Generator().manual_seed(0))
    grades = np.array([0, 1, 2, 3, 4, 0, 1])
    return Subject(net, images, grades, tuple("aabbccd"), batch_size=3, tick=given.append)


def test_what_is_said_of_changed_images(subject, given):
    changed = 1 - subject.images
    logits = subject.logits(changed)
    assert given == [3, 3, 1]
    shares = outputs.probabilities(logits, "softmax")
    assert np.array_equal(subject.scores(changed), shares.numpy()[np.arange(7), subject.grades])
    expected = Subject(subject.net, subject.images, subject.grades, subject.patients, target="expected")
    np.testing.assert_allclose(expected.scores(changed), outputs.expected_grade(shares).numpy(), rtol=1e-5)


def test_the_first_knees_alone(subject):
    some = subject.first(2)
    assert (len(some), some.shape, some.patients) == (2, (48, 40), ("a", "a"))
    np.testing.assert_allclose(some.scores(some.images), subject.scores(subject.images)[:2], rtol=1e-5)
    assert len(subject) == 7  # which is left as it is


@pytest.mark.parametrize(("method", "per_map"), [("gradcam", 1), ("cam", 1), ("scorecam", 1 + 256)])
def test_what_a_map_costs(method, per_map, subject):
    own = Subject(subject.net, subject.images, subject.grades, subject.patients, method)
    assert own.last_map[1:] == (2, 2) and own.last_map[0] == 256
    assert own.passes_a_map == per_map


def test_maps_of_the_knees_of_others_and_of_another_network(subject, given):
    own = subject.maps()
    assert (own.shape, own.dtype) == ((7, 48, 40), np.float32)
    assert given == [3, 3, 1]
    np.testing.assert_array_equal(own, subject.maps(subject.images))
    assert (own != subject.maps(1 - subject.images)).any()
    torch.manual_seed(1)
    assert (own != subject.maps(net=build(NetSpec("test_efficientnet")).eval())).any()
