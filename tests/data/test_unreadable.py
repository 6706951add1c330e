import numpy as np
import pytest

from koa_lightning.data.unreadable import readable
from koa_lightning.errors import InputError

REASONS = {1: "a.png: empty", 4: "b.png: not an image", 5: "c.png: damaged", 6: "d.png: damaged"}


@pytest.mark.parametrize("asked", ["stop", "skip"])
def test_nothing_is_said_when_all_can_be_read(asked):
    found, words = readable(3, {}, asked)
    assert found.tolist() == [True] * 3 and words == ""


def test_they_are_skipped_and_the_first_reasons_are_given():
    found, words = readable(8, REASONS, "skip")
    assert np.flatnonzero(~found).tolist() == list(REASONS)
    assert words == "4 image(s) skipped: a.png: empty; b.png: not an image; c.png: damaged; and 1 more"


def test_or_they_stop_the_command_in_one_line():
    with pytest.raises(InputError, match=r"^1 image\(s\) cannot be read: a.png: empty; repair .*on_unreadable=skip$"):
        readable(2, {1: "a.png: empty"}, "stop")
