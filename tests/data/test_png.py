import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from koa_lightning.data import images, png
from koa_lightning.errors import InputError


def encoded(array, mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "PNG", **options)
    return file.getvalue()


def noise(height=30, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@given(height=st.integers(8, 70), width=st.integers(8, 70), level=st.integers(0, 9))
@settings(max_examples=30)
def test_the_pixels_are_those_of_pil(height, width, level):
    array = noise(height, width, level)
    data = encoded(array, compress_level=level, dpi=(100, 100))
    assert png.size(data) == (height, width)
    assert np.array_equal(png.pixels(data), array)
    assert np.array_equal(images.decode(data, "a.png"), array)


@pytest.mark.parametrize("data", [
    encoded(np.stack([noise()] * 3, 2)),
    encoded(noise().astype(np.uint16) * 256),
    encoded(noise() > 128),
    encoded(noise(), transparency=3),
    encoded(noise(), exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00"),
    b"GIF89a", b"",
])  # fmt: skip
def test_what_is_not_plain_is_left_to_pil(data):
    assert png.size(data) is None


def test_text_that_may_turn_it_is_left_to_pil():
    about = PngImagePlugin.PngInfo()
    about.add_text("Raw profile type exif", "x")
    assert png.size(encoded(noise(), pnginfo=about)) is None


@given(at=st.integers(8, 400), value=st.integers(0, 255))
def test_a_changed_byte_is_never_taken(at, value):
    data = bytearray(encoded(noise()))
    if data[at] != value:
        data[at] = value
        assert png.size(bytes(data)) is None


@pytest.mark.parametrize("cut", [1, 12, 100, 400])
def test_a_truncated_file_is_not_plain(cut):
    assert png.size(encoded(noise())[:-cut]) is None


def test_without_a_split_of_its_pixels_it_is_refused_by_pil_too():
    with pytest.raises(InputError, match=r"a.png: truncated or damaged image"):
        images.decode(encoded(noise())[:-100], "a.png")


def test_a_stream_that_ends_early_under_right_checksums_is_refused():
    whole = encoded(noise())
    stream = zlib.compress(b"\x00" + noise().tobytes()[:100])
    data = whole[:33] + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    assert png.size(data) == (30, 20)
    with pytest.raises(InputError, match=r"a.png: truncated or damaged image"):
        images.decode(data, "a.png")


def test_a_header_of_a_huge_image_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="20000 x 20000 pixels are more than"):
        images.decode(data, "a.png")
