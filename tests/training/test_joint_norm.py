"""Batch norm of two processes against one with both batches."""

import multiprocessing

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import distributed, nn

from koa_lightning.training import joint_norm


def net():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3), BatchNormAct2d(2))
    nn.init.uniform_(layers[1].weight)
    return layers


def passed(layers, image):
    """Return outputs and gradients of the mean square, and the moments that are kept."""
    out = layers(image)
    out.square().mean().backward()
    return [out.detach(), *(p.grad for p in layers.parameters()), *layers.buffers()]


def images():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 + 5


def one_of_two(rank, place, queue):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    layers = net()
    queue.put((joint_norm.join(layers), rank, [value.numpy() for value in passed(layers, images()[rank * 3 :][:3])]))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_normalise_as_one_with_both_batches(tmp_path):
    context = multiprocessing.get_context("spawn")  # autograd has threads by now, which no fork inherits
    queue = context.Queue()
    both = [context.Process(target=one_of_two, args=(rank, tmp_path / "store", queue)) for rank in (0, 1)]
    for process in both:
        process.start()
    found = sorted((queue.get(timeout=300) for _ in both), key=lambda each: each[1])
    for process in both:
        process.join(60)
    assert [joined for joined, _, _ in found] == [2, 2]
    first, second = ([torch.from_numpy(value) for value in values] for _, _, values in found)
    expected = passed(net(), images())
    n = len(list(net().parameters()))
    torch.testing.assert_close(torch.cat([first[0], second[0]]), expected[0], rtol=1e-4, atol=1e-5)
    for mine, others, wanted in zip(first[1 : n + 1], second[1 : n + 1], expected[1 : n + 1], strict=True):
        torch.testing.assert_close((mine + others) / 2, wanted, rtol=1e-3, atol=1e-5)  # as DDP averages them
    for mine, others, wanted in zip(first[n + 1 :], second[n + 1 :], expected[n + 1 :], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine, others)


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_computes_as_before_and_can_be_separated(training):
    joined, plain = net().train(training), net().train(training)
    joint_norm.join(joined)
    assert torch.equal(joined(images()), plain(images()))
    joint_norm.separate(joined)
    assert [type(a) for a in joined] == [type(a) for a in plain]
