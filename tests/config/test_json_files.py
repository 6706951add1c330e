import json
import os

import pytest

from koa_lightning.config.json_files import Fields, read
from koa_lightning.config.kinds import Flag, Many, Mapped, Number, Text, Whole
from koa_lightning.errors import InputError

KIND = Fields(
    {"n": Whole(0, 10), "rows": Many(Fields({"share": Number(0, 1)}))},
    {"said": Text(empty=True, null=True), "by": Mapped(Flag())},
    rule=lambda value: "n is odd" if value["n"] % 2 else "",
)
RIGHT = {"n": 2, "rows": [{"share": 0.5}], "said": None, "by": {"a": True}, "more": [1]}


def test_what_fits_is_returned_whole(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RIGHT))
    assert read(tmp_path / "a.json", KIND) == RIGHT
    assert KIND.fits(RIGHT) and not KIND.fits([]) and not KIND.fits({})
    assert KIND.words() == "an entry with n, rows"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": "x"}, "n=x: must be a whole number from 0 to 10"),
        ({"n": True}, "n=true: must be"),
        ({"n": 1e400}, "n=inf: must be"),
        ({"n": 10**300}, "n=a number of many digits: must be"),
        ({"n": 3}, "it: n is odd"),
        ({"rows": {}}, "rows={...}: must be a list"),
        ({"rows": [{"share": 0}, {}]}, "has no entry rows[1].share"),
        ({"rows": [{"share": float("nan")}]}, "rows[0].share=nan: must be a number from 0 to 1"),
        ({"rows": [3]}, "rows[0]=3: must be an entry with share"),
        ({"said": 3}, "said=3: must be a text"),
        ({"said": ["\x1b[31m"]}, "said=[...]: must be a text"),
        ({"by": {"\x1b[2J": 1}}, "by.?[2J=1: must be one of true, false"),
        ({"by": {"a" * 500: None}}, f"by.{'a' * 57}...=null: must be"),
        ({"more": json.loads("[" * 100 + "]" * 100)}, "nested too deeply to be read"),
    ],
)
def test_what_does_not_fit_is_one_line_with_its_field(change, reason, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**RIGHT, **change}))
    with pytest.raises(InputError) as caught:
        read(file, KIND, "make it again")
    said = str(caught.value)
    assert said.startswith(f"{file}: {reason}") and said.endswith("; make it again")
    assert said.isprintable() and len(said) < 300


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"{", b"null", b"[]", b"7", b'"x"', b"1" * 5000])
def test_what_is_no_such_file(content, tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: "):
        read(file, KIND)


def test_a_pipe_a_folder_and_nothing_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "nosuch"):
        with pytest.raises(InputError, match="there is no such file"):
            read(tmp_path / name, KIND)


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**38)  # of holes
    with pytest.raises(InputError, match=r"is too large \(274,878 MB\)"):
        read(tmp_path / "a.json", KIND)
