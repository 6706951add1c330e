"""Warps by a matrix: what each row's matrix is, and that mirrors and whole pixels are exact."""

import pytest
import torch
from kornia import augmentation as ka

from koa_lightning.training.augmentation.geometry import Warp, is_fusible, sampling


def warped(image, *operations):
    torch.manual_seed(0)
    params = [operation.forward_parameters(image.shape) for operation in operations]
    how = next((found for operation in operations if (found := sampling(operation))), None)
    warp, output = Warp(operations, params, image.shape, how), torch.empty(image.shape)
    warp.write(output, image, 0)
    return output, warp


@pytest.mark.parametrize("size", [(1, 1), (5, 1), (6, 9)])
def test_mirrors_are_exact(size):
    image = torch.randint(0, 256, (4, 1, *size), dtype=torch.uint8)
    left, up = ka.RandomHorizontalFlip(p=1.0), ka.RandomVerticalFlip(p=1.0)
    assert torch.equal(warped(image, left)[0], image.flip(-1) / 255)
    assert torch.equal(warped(image, left, up)[0], image.flip(-1, -2) / 255)
    assert torch.equal(warped(image, left, left)[0], image / 255)


def test_whole_pixels_and_black_outside():
    image = torch.rand(3, 1, 10, 20)
    output, warp = warped(image, ka.RandomTranslate((0.25, 0.25), (-0.2, -0.2), p=1.0))
    assert set(warp.kinds) == {"affine"}
    torch.testing.assert_close(output[..., :-2, 5:], image[..., 2:, :-5], atol=1e-5, rtol=0)
    assert not output[..., :5].any() and not output[..., -2:, :].any()


def test_rows_that_are_not_drawn_are_left_and_others_distinguished():
    _, warp = warped(torch.rand(40, 1, 8, 8), ka.RandomHorizontalFlip(p=0.5), ka.RandomPerspective(0.3, p=0.3))
    assert set(warp.kinds) == {"left", "left-right", "projective"}


def test_what_is_not_a_plain_matrix_is_not_fusible():
    assert not is_fusible(ka.RandomResizedCrop((8, 8))) and not is_fusible(ka.RandomElasticTransform())
    assert not is_fusible(ka.RandomAffine(5.0, padding_mode="fill", fill_value=0.5))
