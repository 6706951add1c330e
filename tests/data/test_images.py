import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from koa_lightning.data import images
from koa_lightning.data.images import decode, read_image
from koa_lightning.errors import InputError


def gray(height=24, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array, **options):
    stream = BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def scaled(array):
    """Lowest..highest to 0..255, by another way than the code under test."""
    return np.round(np.interp(array, [array.min(), array.max()], [0, 255])).astype(np.uint8)


def refuses(data, *words, name="knee.png"):
    with pytest.raises(InputError) as caught:
        decode(data, name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{name}: ")
    assert "0x" not in message  # no address of an object
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_gray_is_taken_as_it_is(kind, tmp_path):
    path = tmp_path / f"knee.{kind.lower()}"
    Image.fromarray(gray()).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, gray())
    assert np.array_equal(read_image(str(path)), gray())


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_jpeg_and_webp_are_what_pil_decodes(kind, options):
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (30, 1))
    data = encoded(Image.fromarray(ramp), kind, **options)
    image = decode(data, "knee")
    assert np.array_equal(image, np.asarray(Image.open(BytesIO(data)).convert("L")))
    assert np.abs(image.astype(int) - ramp).max() <= 3


def test_content_counts_not_the_ending():
    assert np.array_equal(decode(encoded(Image.fromarray(gray())), "knee.jpg"), gray())


def test_two_levels_become_black_and_white():
    assert set(np.unique(decode(encoded(Image.fromarray(gray() > 127)), "k"))) == {0, 255}


def test_transparency_is_laid_on_black():
    alpha = np.full((24, 40), 255, np.uint8)
    alpha[:, 20:] = 0
    alpha[0] = 128
    for mode in ("LA", "RGBA"):
        channels = [gray()] * (len(mode) - 1) + [alpha]
        image = decode(encoded(Image.merge(mode, [Image.fromarray(c) for c in channels])), "knee")
        expected = np.round(gray().astype(float) * alpha / 255)
        assert np.abs(image - expected).max() <= 1
        assert (image[1:, 20:] == 0).all()


def test_palette_is_looked_up_and_its_transparent_entry_is_black():
    indices = Image.fromarray(gray() % 4, "L").copy()
    indices.putpalette([10, 10, 10, 90, 90, 90, 170, 170, 170, 250, 250, 250])
    looked_up = np.array([10, 90, 170, 250], np.uint8)
    assert np.array_equal(decode(encoded(indices), "knee"), looked_up[gray() % 4])
    looked_up[3] = 0
    assert np.array_equal(decode(encoded(indices, transparency=3), "knee"), looked_up[gray() % 4])


def test_colour_becomes_its_luma():
    rgb = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(encoded(Image.fromarray(rgb)), "knee") - luma).max() <= 1


def test_cmyk_is_bright_where_ink_is_missing():
    ink = Image.merge("CMYK", [Image.new("L", (40, 24))] * 3 + [Image.fromarray(255 - gray())])
    image = decode(encoded(ink, "TIFF"), "knee").astype(int)
    assert np.abs(image - gray()).max() <= 1


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", "<i4", "<f4"])
def test_deep_tiff_goes_from_lowest_to_highest(dtype):
    array = np.random.default_rng(2).integers(-900 if "u" not in dtype else 100, 3000, (24, 40)).astype(dtype)
    image = decode(tiff(array), "knee.tif")
    assert image.min() == 0
    assert image.max() == 255
    assert np.array_equal(image, scaled(array))


def test_16_bit_png_uses_the_full_range():
    array = gray().astype(np.uint16) * 16 + 5  # 12 bits: by the high bytes it would have 16 levels
    assert np.array_equal(decode(encoded(Image.fromarray(array)), "knee"), scaled(array))


def test_deep_tiff_whose_zero_is_white_is_inverted():
    array = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    image = decode(tiff(array, photometric="miniswhite"), "knee.tif")
    assert np.array_equal(image, 255 - scaled(array))
    shallow = decode(tiff(gray(), photometric="miniswhite"), "knee.tif")
    assert np.array_equal(shallow, 255 - gray())


def test_constant_deep_image_is_black():
    assert not decode(tiff(np.full((9, 9), 700, np.uint16)), "knee").any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(bad):
    array = gray().astype(np.float32)
    array[3, 4] = bad
    refuses(tiff(array), "NaN or infinite")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.kron(gray(3, 5), np.ones((8, 8), np.uint8))
    data = encoded(Image.fromarray(array), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("L")
    image = decode(data, "knee")
    assert image.shape == ((24, 40) if orientation < 5 else (40, 24))
    assert np.array_equal(image, np.asarray(upright))


def test_exif_orientation_of_a_deep_image():
    exif = Image.Exif()
    exif[0x0112] = 3
    array = gray().astype(np.uint16) * 100
    data = encoded(Image.fromarray(array), exif=exif)
    assert np.array_equal(decode(data, "knee"), scaled(array)[::-1, ::-1])


def test_missing_folder_and_null_byte(tmp_path):
    for path, words in [
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "is a folder"),
        ("a\0b", "cannot"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_empty_file(tmp_path):
    path = tmp_path / "knee.png"
    path.touch()
    with pytest.raises(InputError, match=r"knee\.png: the file is empty"):
        read_image(path)


@pytest.mark.parametrize("data", [b"a table, not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)])
def test_not_an_image(data):
    refuses(data, "not a readable PNG")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_truncated(kind, share):
    data = encoded(Image.fromarray(gray(96, 96)), kind)
    refuses(data[: int(len(data) * share)])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest replaces the filter of the module
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]), st.data())
def test_damaged_bytes_give_an_image_or_one_line(kind, data):
    damaged = bytearray(encoded(Image.fromarray(gray(16, 16)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(damaged), "knee")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 2
        assert image.dtype == np.uint8


def bomb(width, height):
    """A PNG that claims to be large and holds next to nothing."""
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return repaired(bytes(data))


def repaired(data):
    return data[:29] + zlib.crc32(data[12:29]).to_bytes(4, "big") + data[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_image_is_refused_by_its_header():
    refuses(bomb(10_001, 10_000), "10001 x 10000 pixels", "100000000")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(10_001, 10_000), (40_000, 40_000)])
def test_a_bomb_is_refused_by_its_header_without_a_warning_of_pils(size):
    refuses(bomb(*size), "are more than 100000000")


@pytest.mark.parametrize("size", [(7, 40), (40, 7), (1, 1)])
def test_side_under_8_pixels(size):
    refuses(encoded(Image.new("L", size)), "under 8")


def test_8_pixels_are_enough():
    assert decode(encoded(Image.new("L", (8, 8))), "knee").shape == (8, 8)


def test_depths_that_pil_would_wrap():
    refuses(tiff(gray().astype(np.uint32) * 9_000_000), "unsigned 32-bit")
    refuses(tiff(gray().astype(np.int8)), "signed 8-bit")


def deep_png(pixels):
    """A PNG in 16 bits, of H x W x 2 (gray and alpha), 3 or 4 channels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_colour_in_16_bits_becomes_its_luma_over_the_full_range():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 65536, (9, 12, 3)).astype(np.uint16)
    alpha = rng.integers(0, 65536, (9, 12, 1)).astype(np.uint16)
    luma = colour @ [0.299, 0.587, 0.114]
    for file, wanted in (
        (deep_png(colour), luma),
        (tiff(colour, photometric="rgb"), luma),
        (deep_png(np.concatenate([colour, alpha], axis=2)), luma * alpha[..., 0] / 65535),
        (deep_png(np.concatenate([colour[..., :1], alpha], axis=2)), colour[..., 0] * (alpha[..., 0] / 65535)),
    ):
        np.testing.assert_allclose(decode(file, "knee"), scaled(wanted), atol=1)
        assert decode(file, "knee", np.uint16).max() == 65535


def test_kinds_of_16_bit_colour_that_nothing_reads_are_refused():
    refuses(tiff(np.zeros((9, 9, 4), np.uint16), photometric="separated"), "16-bit colour")


def test_several_pictures_in_a_file():
    pages = [Image.fromarray(gray(seed=s)) for s in (1, 2)]
    for kind in ("TIFF", "PNG", "WEBP"):
        refuses(encoded(pages[0], kind, save_all=True, append_images=pages[1:]), "several pictures")


def test_odd_metadata_is_not_printed(tmp_path):
    """In a process of its own, as pytest replaces the filters of warnings."""
    data = encoded(Image.fromarray(gray()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + bytes(30))
    (tmp_path / "knee.jpg").write_bytes(data)
    code = "import sys; from koa_lightning.data.images import read_image; read_image(sys.argv[1])"
    plain = "import sys; from PIL import Image; Image.open(sys.argv[1]).getexif().get(1)"
    said = [
        subprocess.run(
            [sys.executable, "-c", line, tmp_path / "knee.jpg"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(images.__file__).parents[2],
        ).stderr
        for line in (code, plain)
    ]
    assert said[0] == ""
    assert "Warning" in said[1]  # PIL alone does warn of this file


def test_threads_read_the_same_pixels():
    sources = [gray(seed=seed) for seed in range(40)]
    files = [encoded(Image.fromarray(source)) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(decode, files, ["knee"] * len(files)))
    assert all(np.array_equal(a, b) for a, b in zip(read, sources, strict=True))


def test_the_size_is_told_by_the_header_alone(tmp_path, write_dicom):
    pixels = np.zeros((40, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert images.size_of(data, "a.png") == (40, 30)
    assert images.size_of(data[:-16], "cut.png") == (40, 30)  # the pixels are not looked at
    dicom = write_dicom(tmp_path / "a.dcm", pixels.astype(np.uint16)).read_bytes()
    assert images.size_of(dicom, "a.dcm") == (40, 30)
    for wrong in (b"", b"no image", b"\0" * 128 + b"DICM", dicom[:200]):
        with pytest.raises(InputError):
            images.size_of(wrong, "a.dcm" if b"DICM" in wrong else "a.png")
