import cv2
import numpy as np
import pytest

from koa_lightning.data import polarity
from koa_lightning.data.audit.files import framed
from koa_lightning.data.audit.gather import SIZE
from koa_lightning.data.fitting import fit
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.data.preprocessing import Preprocessing, hash_pixels


@pytest.fixture
def checked(monkeypatch):
    """Call images inverted whose first pixel is bright; collect the shapes that were judged."""
    shapes = []

    def inverted(images):
        shapes.append(images.shape)
        return images[:, images.shape[1] // 2, 0] > 128

    monkeypatch.setattr(polarity, "inverted", inverted)
    return shapes


def image(bright, shape=(60, 60)):
    pixels = np.random.default_rng(0).integers(10, 100, shape, dtype=np.uint8)
    return 255 - pixels if bright else pixels


def test_polarity_is_not_looked_at_unless_it_is_to_be_fixed(checked):
    assert np.array_equal(Preprocessing(32).apply(image(True)), fit(image(True), 32, "letterbox"))
    assert checked == []


@pytest.mark.parametrize("size", [32, 224])
def test_inverted_images_are_inverted_back_and_others_left(checked, size):
    repairing = Preprocessing(size, fix_polarity=True)
    for bright in (False, True):
        fitted, repaired = repairing.repaired(image(bright))
        assert repaired is bright
        assert np.array_equal(fitted, fit(image(False), size, "letterbox"))
        assert np.array_equal(repairing.apply(image(bright)), fitted)
    assert set(checked) == {(1, 224, 224)}


def test_what_pads_stays_black_and_the_side_is_mirrored(checked):
    wide = image(True, (30, 60))
    fitted = Preprocessing(60, canonical_side="L", fix_polarity=True).apply(wide, "R")
    assert not fitted[:15].any() and not fitted[45:].any()
    assert np.array_equal(fitted[15:45], 255 - wide[:, ::-1])


@pytest.mark.parametrize("size", [(290, 320), (256, 320), (180, 320), (320, 256)])
def test_films_of_any_shape_are_inverted_back_and_upright_ones_left(size):
    rows = phantom_manifest(6, seed=5)
    knees = draw_phantoms(rows["patient"], rows["side"], rows["grade"], seed=5, size=320)
    repairing = Preprocessing(fix_polarity=True)
    for film in (cv2.resize(knee, size, interpolation=cv2.INTER_AREA) for knee in knees):
        assert not repairing.repaired(film)[1]
        fitted, repaired = repairing.repaired(255 - film)
        assert repaired
        assert np.array_equal(fitted, Preprocessing().apply(film))


@pytest.mark.parametrize("shape", [(90, 60), (60, 97), (300, 211)])
def test_the_pixels_that_are_judged_are_those_that_the_audit_judges(checked, shape):
    Preprocessing(32, fix_polarity=True).apply(image(False, shape))
    whole = fit(image(False, shape), SIZE, "letterbox")
    assert checked == [(1, *framed(whole, shape).shape)]


@pytest.mark.parametrize(
    ("top", "bottom", "rows"),
    [(0.0, 1.0, (0, 40)), (0.25, 0.85, (10, 34)), (0.9, 1.0, (36, 40)), (0.999, 1.0, (39, 40))],
)
def test_a_band_of_rows_is_kept_and_seen_larger(top, bottom, rows):
    whole = image(False, (40, 30))
    band = Preprocessing(50, "stretch", canonical_side="L", top=top, bottom=bottom)
    assert np.array_equal(band.apply(whole), fit(whole[slice(*rows)], 50, "stretch"))
    assert np.array_equal(band.apply(whole, "R"), fit(whole[slice(*rows)], 50, "stretch")[:, ::-1])


def test_polarity_is_judged_on_the_whole_image(checked):
    band = Preprocessing(32, fix_polarity=True, top=0.6)
    fitted, repaired = band.repaired(image(True))
    assert repaired
    assert np.array_equal(fitted, fit(image(False)[36:], 32, "letterbox"))


def test_the_hash_of_pixels_knows_values_and_shape():
    pixels = image(False, (20, 30))
    assert len(hash_pixels(pixels)) == 32
    assert hash_pixels(pixels) == hash_pixels(np.asfortranarray(pixels))
    assert hash_pixels(pixels[:, ::-1]) == hash_pixels(pixels[:, ::-1].copy())
    assert len({hash_pixels(each) for each in (pixels, pixels[:, ::-1], pixels.reshape(30, 20), pixels + 1)}) == 4
