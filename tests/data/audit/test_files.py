import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from koa_lightning.data.audit import files
from koa_lightning.data.fitting import framed
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest

SIZE = 224


@pytest.fixture(scope="module")
def phantoms():
    rows = phantom_manifest(20, 3, (0.3, 0.2, 0.2, 0.15, 0.15))
    drawn = draw_phantoms(rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=3, size=SIZE)
    return np.ascontiguousarray(drawn)


def found(images, shapes=None, faults=None):
    shapes = np.full((len(images), 2), SIZE) if shapes is None else shapes
    statistics = files.image_statistics(images, shapes, quiet=True)
    paths = [f"{row}.png" for row in range(len(images))]
    return files.pictures(paths, statistics, faults or {})


def planted(phantoms, change, rows=(1, 5, 17)):
    images = phantoms.copy()
    for row in rows:
        images[row] = change(images[row])
    return images


def jpeg(image, quality=85):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def drawn_on(image, draw):
    picture = Image.fromarray(image)
    draw(ImageDraw.Draw(picture))
    return np.asarray(picture)


def text(image, fill=255):
    font = ImageFont.load_default(size=26)
    return drawn_on(image, lambda draw: draw.text((60, 90), "TEST", fill=fill, font=font))


def mask(image):
    return drawn_on(image, lambda draw: draw.rectangle((80, 100, 130, 130), fill=0))


def cut_off(image):
    copy = image.copy()
    copy[150:] = 128
    return copy


def constant(image):
    return np.full_like(image, 90)


def noisy(image):
    return np.random.default_rng(0).integers(60, 66, image.shape, dtype=np.uint8)


FAULTS = {
    "constant": (constant, "blank"),
    "black": (np.zeros_like, "blank"),
    "nearly constant": (noisy, "blank"),
    "cut off": (cut_off, "truncated"),
    "too dark": (lambda image: (255 * (image / 255.0) ** 8).astype(np.uint8), "exposure"),
    "too light": (lambda image: np.clip(image * 2.5, 0, 255).astype(np.uint8), "exposure"),
    "no contrast": (lambda image: (128 + 0.1 * (image - 128.0)).astype(np.uint8), "exposure"),
    "white text": (lambda image: jpeg(text(image)), "burnt_in"),
    "black text": (lambda image: jpeg(text(255 - image // 2, fill=0)), "burnt_in"),
    "black box": (lambda image: mask(np.maximum(image, 40)), "burnt_in"),
}


def test_clean_phantoms_have_no_finding(phantoms):
    findings = found(phantoms)
    assert {finding.kind for finding in findings} <= {"burnt_in"}  # best effort: a bright cortex can look so
    assert len(findings) <= 2
    assert found(phantoms[:3]) == []


@pytest.mark.parametrize(("change", "kind"), FAULTS.values(), ids=FAULTS)
def test_each_planted_fault_is_found_and_nothing_else(phantoms, change, kind):
    clean = {tuple(finding.rows) for finding in found(phantoms)}
    findings = [finding for finding in found(planted(phantoms, change)) if tuple(finding.rows) not in clean]
    assert [(finding.rows, finding.kind) for finding in findings] == [([1], kind), ([5], kind), ([17], kind)]
    assert all(finding.evidence and finding.files == [f"{finding.rows[0]}.png"] for finding in findings)
    assert {finding.severity for finding in findings} == {"note" if kind == "burnt_in" else "warning"}


def test_with_few_files_exposure_is_judged_by_its_own_pixels_alone(phantoms):
    few = planted(phantoms[:4], lambda image: np.clip(image * 6.0, 0, 255).astype(np.uint8), rows=[1])
    assert [finding.rows for finding in found(few)] == [[1]]
    dim = planted(phantoms[:4], lambda image: (128 + 0.1 * (image - 128.0)).astype(np.uint8), rows=[1])
    assert found(dim) == []


def test_rows_that_cannot_be_read_are_omitted_of_the_pictures(phantoms):
    images = planted(phantoms, np.zeros_like, rows=[2])
    shapes = np.full((len(images), 2), SIZE)
    shapes[2] = 0
    assert found(images, shapes, {2: "2.png: no such file"}) == []


@pytest.mark.parametrize("shape", [(224, 100), (100, 224), (448, 200), (30, 448)])
def test_what_pads_a_letterboxed_image_is_not_measured(shape):
    from koa_lightning.data.fitting import fit

    image = np.full(shape, 100, np.uint8)
    inner = framed(fit(image, SIZE, "letterbox"), shape)
    assert (inner == 100).all()
    assert max(inner.shape) == SIZE


def test_sharpness_falls_with_blur_and_needs_three_pixels(phantoms):
    small = Image.fromarray(phantoms[0]).resize((56, 56))
    assert files.sharpness(np.asarray(small.resize((SIZE, SIZE)))) < files.sharpness(phantoms[0])
    assert files.sharpness(phantoms[0][:2]) == 0
    assert files.marks_over_joint(phantoms[0][:20]) == 0


@pytest.mark.parametrize("place", [(0, 0, 40, 40), (100, 200, 130, 216), (2, 90, 12, 130), (214, 90, 222, 130)])
def test_marks_at_the_edge_do_not_count(phantoms, place):
    marked = drawn_on(np.full((SIZE, SIZE), 100, np.uint8), lambda draw: draw.rectangle(place, fill=255))
    assert files.marks_over_joint(marked) == 0


def test_unreadable_and_damaged_files_are_distinguished():
    faults = {1: "b.jpg: truncated or damaged image (3 bytes)", 0: "a.jpg: no such file; check the path"}
    findings = files.unreadable(["a.jpg", "b.jpg"], faults)
    assert [(finding.kind, finding.evidence) for finding in findings] == [
        ("unreadable", "no such file; check the path"),
        ("truncated", "truncated or damaged image (3 bytes)"),
    ]


ODD = [((900, 900), "size"), ((224, 112), "aspect"), ((600, 900), "size and aspect"), ((260, 200), "aspect")]


@pytest.mark.parametrize(("odd", "what"), [*ODD, ((60, 60), "size")])
def test_an_odd_size_is_found(odd, what):
    shapes = np.full((60, 2), 224)
    shapes[7] = odd
    (finding,) = files.sizes([f"{i}" for i in range(60)], shapes)
    assert finding.rows == [7]
    assert finding.evidence.endswith(f"unusual {what}")
    assert finding.numbers == {"width": odd[1], "height": odd[0]}


def test_sizes_that_many_share_and_small_differences_are_usual():
    shapes = np.full((100, 2), 224)
    shapes[:30] = (1024, 1024)
    shapes[30:50] = (230, 220)
    assert files.sizes(["x"] * 100, shapes) == []
    assert files.sizes(["x"] * 2, np.zeros((2, 2), dtype=int)) == []
    spread = np.random.default_rng(0).integers(200, 900, (200, 1)).repeat(2, axis=1)
    assert files.sizes(["x"] * 200, spread) == []


def test_measures_are_a_row_an_image(phantoms):
    statistics = files.image_statistics(phantoms, np.full((len(phantoms), 2), SIZE), quiet=True)
    assert list(statistics.columns) == list(files.STATISTICS)
    assert np.allclose(statistics["brightness"], phantoms.mean(axis=(1, 2)))
    assert np.allclose(statistics["contrast"], phantoms.std(axis=(1, 2)))
    assert files.robust(pd.Series([1.0, 1.0, 9.0])) == (1.0, 1.0)
