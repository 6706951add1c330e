import numpy as np
import pytest
import torch

from koa_lightning.data.dataset import KneeDataset
from koa_lightning.models.net import NetSpec, build
from koa_lightning.reporting import panels

GRADES = np.array([0, 1, 2, 3, 4, -1, 2])


@pytest.fixture(scope="module")
def graded():
    """A network, seven knees of which one's grade is unknown, their names, and logits."""
    images = np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    torch.manual_seed(0)
    net = build(NetSpec("test_efficientnet")).eval()
    return net, KneeDataset(images, np.arange(7), GRADES), [f"a/{i}.png" for i in range(7)], torch.randn(7, 5)


GRADCAM = {"method": "gradcam", "target": "grade", "link": "softmax"}


def draw(graded, folder, **options):
    options = {"maps": GRADCAM, **options}
    return [file.name for file in panels.draw_graded(*graded, ["phantom data"], folder, title="test", **options)]


@pytest.mark.slow
def test_what_is_drawn(graded, tmp_path):
    assert draw(graded, tmp_path, n_worst=2) == ["confusion_matrix.png", "gradcam.png"]
    more = draw(graded, tmp_path.with_name("more"), n_worst=2, more_panels=True, maps={**GRADCAM, "method": "cam"})
    kinds = ("by_grade", "by_mistake", "most_certain")  # of six knees none is left to be the least certain
    assert more == ["confusion_matrix.png", "cam.png", *(f"panel_{kind}.png" for kind in kinds)]
    assert draw(graded, tmp_path, n_worst=None) == ["confusion_matrix.png"]
    assert draw(graded, tmp_path, n_worst=0, suffix="_epoch_001") == ["gradcam_epoch_001.png"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion_matrix.png",
        "gradcam.png",
        "gradcam_epoch_001.png",
    }


def test_knees_of_unknown_grade_are_in_no_figure(graded, tmp_path, monkeypatch):
    seen = {}
    original = panels.cam_panel
    monkeypatch.setattr(panels, "cam_panel", lambda *args: seen.update(grade=args[2], names=args[5]) or original(*args))
    figure = panels.figures.confusion_matrix_figure
    monkeypatch.setattr(
        panels.figures,
        "confusion_matrix_figure",
        lambda counts, *args: seen.update(counts=counts) or figure(counts, *args),
    )
    draw(graded, tmp_path, n_worst=7)
    assert int(seen["counts"].sum()) == 6
    assert seen["counts"].sum(1).tolist() == [1, 1, 2, 1, 1]
    assert set(seen["grade"]) == {0, 1, 2, 3, 4}
    assert "5.png" not in seen["names"]


def test_the_counts_are_true_by_predicted(graded, tmp_path, monkeypatch):
    net, dataset, paths, _ = graded
    logits = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 3, 4, 0, 0]), 5).float() * 9
    seen = []
    figure = panels.figures.confusion_matrix_figure
    monkeypatch.setattr(
        panels.figures, "confusion_matrix_figure", lambda counts, *args: seen.append(counts) or figure(counts, *args)
    )
    panels.draw_graded(net, dataset, paths, logits, [], tmp_path, title="", n_worst=None, maps=GRADCAM)
    assert seen[0][0].tolist() == [0, 1, 0, 0, 0]
    assert seen[0][2].tolist() == [1, 0, 1, 0, 0]


def test_nothing_is_drawn_without_a_known_grade(graded, tmp_path):
    net, dataset, paths, logits = graded
    unknown = KneeDataset(dataset.images, dataset.rows, np.full(7, -1))
    assert panels.draw_graded(net, unknown, paths, logits, [], tmp_path, title="", n_worst=3, maps=GRADCAM) == []


@pytest.mark.slow
def test_the_network_is_left_as_it_was(graded, tmp_path):
    net = graded[0].train()
    draw(graded, tmp_path, n_worst=1)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()
