import numpy as np
import pytest

from koa_lightning.data.gray import check_size, input_errors, one_line, stretch
from koa_lightning.errors import InputError


def test_scaling_survives_the_whole_range_of_float32():
    limits = np.finfo(np.float32)
    assert stretch(np.array([limits.min, 0, limits.max], np.float32), "x").tolist() == [0, 128, 255]


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_the_whole_range_is_used_in_order(dtype, most):
    values = np.array([[-3, 0], [5, 2]])
    stretched = stretch(values, "x", dtype)
    assert (stretched.dtype, stretched.min(), stretched.max()) == (dtype, 0, most)
    assert np.array_equal(np.argsort(stretched, axis=None), np.argsort(values, axis=None))


def test_constant_values_are_black():
    assert stretch(np.full((2, 2), 7), "x").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(InputError, match=r"^knee\.png: has NaN or infinite pixels"):
        stretch(np.array([0.0, bad]), "knee.png")


@pytest.mark.parametrize(
    ("height", "width", "fits"),
    [(8, 8, True), (7, 8, False), (8, 7, False), (10_000, 10_000, True), (10_000, 10_001, False)],
)
def test_the_limits_of_size_themselves(height, width, fits):
    if fits:
        check_size(height, width, "x")
    else:
        with pytest.raises(InputError, match=f"^x: {width} x {height} pixels"):
            check_size(height, width, "x")


def test_whatever_a_decoder_raises_is_one_line():
    with (
        pytest.raises(InputError, match=r"^x: cannot be read \(a b\); copy or export it again$"),
        input_errors("x", "cannot be read"),
    ):
        raise SyntaxError("a\n  b")
    for kind in (InputError, MemoryError):
        with pytest.raises(kind, match=r"^itself$"), input_errors("x", "cannot be read"):
            raise kind("itself")
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 500))) == 200
