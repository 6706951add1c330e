import base64
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.reporting.report import thumbnails


def opened(address):
    head, _, content = address.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(content)))


def rows(*paths):
    return pd.DataFrame({"path": paths, "side": ["L"] * len(paths)})


def test_a_knee_is_shown_as_the_network_sees_it(full, tmp_path):
    image = np.zeros((40, 20), np.uint8)
    image[:20] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    [address] = thumbnails.of_knees(full, rows(str(tmp_path / "a.png")))
    seen = Preprocessing(32).apply(image, "L")
    shown = np.asarray(opened(address)).astype(int)
    assert shown.shape == (32, 32)
    assert np.abs(shown - seen).mean() < 5


def test_of_a_table_without_a_model_knees_are_letterboxed(bare, tmp_path):
    Image.fromarray(np.full((40, 20), 90, np.uint8)).save(tmp_path / "a.png")
    [address] = thumbnails.of_knees(bare, rows(str(tmp_path / "a.png")))
    assert opened(address).size == (thumbnails.SIDE, thumbnails.SIDE)


def test_what_cannot_be_read_has_no_picture(full, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"x")
    found = thumbnails.of_knees(full, rows("", str(tmp_path / "damaged.png"), str(tmp_path / "missing.png")))
    assert found == ["", "", ""]


def test_phantoms_are_drawn_again(full):
    [address] = thumbnails.of_knees(full, rows("phantom://5/P000001L-3"))
    assert opened(address).size == (32, 32)
    assert np.asarray(opened(address)).std() > 20


@pytest.mark.parametrize(
    ("width", "shown"), [(1500, (1500, 750)), (1501, (1500, 750)), (3000, (1500, 750)), (60, (60, 30))]
)
def test_wide_panels_are_made_smaller_and_others_are_not(width, shown, tmp_path):
    Image.new("L", (width, width // 2), 128).save(tmp_path / "panel.png")
    assert opened(thumbnails.of_file(tmp_path / "panel.png")).size == shown
