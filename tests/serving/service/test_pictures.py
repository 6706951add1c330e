import base64
import io

import numpy as np
from PIL import Image

from koa_lightning.reporting.heat_maps import overlay
from koa_lightning.serving.service import pictures


def image_of(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_heat_layer_laid_on_the_radiograph_is_the_overlay():
    rng = np.random.default_rng(0)
    gray, heat = rng.integers(0, 256, (40, 50), dtype=np.uint8), rng.random((40, 50), dtype=np.float32)
    layer = image_of(pictures.heat_layer(heat))
    laid = Image.alpha_composite(Image.fromarray(gray).convert("RGBA"), layer).convert("RGB")
    assert np.abs(np.asarray(laid).astype(int) - overlay(gray, heat)).max() <= 1


def test_no_heat_is_transparent():
    assert np.asarray(image_of(pictures.heat_layer(np.zeros((9, 9), np.float32))))[..., 3].max() == 0


def test_large_pictures_are_reduced_and_keep_their_shape():
    assert image_of(pictures.gray_picture(np.zeros((4096, 1000), np.uint8))).size == (500, 2048)
    assert image_of(pictures.heat_layer(np.zeros((2048, 4096), np.float32))).size == (1024, 512)
    small = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(np.asarray(image_of(pictures.gray_picture(small))), small)
