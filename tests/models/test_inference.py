import pytest
import torch

from koa_lightning.models.inference import grade_batches, grade_logits
from koa_lightning.models.net import NetSpec, build

CPU = torch.device("cpu")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build(NetSpec("test_efficientnet", mean=0.4, std=0.3, drop_rate=0.5)).eval()


@pytest.fixture
def image():
    return torch.randint(0, 256, (6, 1, 40, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_logits_are_those_of_the_normalised_image(net, image):
    wanted = net((image / 255 - 0.4) / 0.3)
    assert torch.allclose(grade_logits(net, image), wanted, atol=1e-5)


def test_autocast_around_it_changes_nothing(net, image):
    with torch.autocast("cpu", torch.bfloat16):
        logits = grade_logits(net, image)
        coarse = net(net.normalise(image))
    assert logits.dtype == torch.float32
    assert coarse.dtype == torch.bfloat16
    assert torch.equal(logits, grade_logits(net, image))


def test_flip_averages_both_views(net, image):
    mean = (grade_logits(net, image) + grade_logits(net, image.flip(-1))) / 2
    flipped = grade_logits(net, image, flip=True)
    assert torch.allclose(flipped, mean, atol=1e-5)
    assert torch.allclose(flipped, grade_logits(net, image.flip(-1), flip=True), atol=1e-5)
    assert not torch.allclose(flipped, grade_logits(net, image), atol=1e-5)


def test_an_image_is_graded_alike_in_any_batch(net, image):
    """Dropout and batch statistics are off, whatever mode the network came in."""
    whole = grade_logits(net, image)
    net.train()
    parts = torch.cat(list(grade_batches(net, [{"image": part} for part in image.split([1, 3, 2])], CPU)))
    assert not net.training
    assert not parts.requires_grad
    assert torch.allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_weights_decide_on_the_memory_format(memory_format, net, image):
    seen = []
    net.to(memory_format=memory_format)
    net.last_map.register_forward_hook(lambda module, args, output: seen.append(output))
    grade_logits(net, image)
    assert seen[0].is_contiguous(memory_format=memory_format)
