import errno

import pytest

from koa_lightning.errors import naming


def test_an_error_of_the_disk_names_what_was_written(tmp_path):
    with pytest.raises(OSError, match=r"x\.csv") as caught, naming(tmp_path / "x.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "x.csv")


def test_a_name_that_is_known_already_stays(tmp_path):
    with pytest.raises(OSError) as caught, naming(tmp_path / "x.csv"):
        open(tmp_path / "missing" / "y.csv")  # noqa: PTH123, SIM115
    assert caught.value.filename == str(tmp_path / "missing" / "y.csv")
