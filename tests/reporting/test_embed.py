import base64
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from koa_lightning.reporting import embed


def opened(address):
    head, _, content = address.partition(";base64,")
    return head, Image.open(BytesIO(base64.b64decode(content)))


def test_an_address_holds_the_file():
    assert embed.uri("svg+xml", b"<svg/>") == "data:image/svg+xml;base64,PHN2Zy8+"


def test_a_figure_is_drawn_at_150_dpi():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    head, picture = opened(embed.png(figure))
    assert (head, picture.size) == ("data:image/png", (300, 150))
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_pixels_survive_as_jpeg():
    gradient = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))
    head, picture = opened(embed.jpeg(gradient[:, ::-1]))  # not contiguous
    assert (head, picture.size, picture.mode) == ("data:image/jpeg", (64, 32), "L")
    assert np.abs(np.asarray(picture).astype(int) - gradient[:, ::-1]).max() < 12
