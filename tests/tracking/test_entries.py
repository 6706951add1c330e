import json

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_param_name

from koa_lightning.tracking.entries import flatten, pairs, valid_name


def test_flatten_writes_values_as_overrides():
    nested = {
        "trainer": {"max_epochs": 3, "fast": False, "x": None},
        "mean": [0.5, 1],
        "tags": {},
        "name": "a b",
    }
    assert flatten(nested) == {
        "trainer.max_epochs": "3",
        "trainer.fast": "false",
        "trainer.x": "null",
        "mean": "[0.5, 1]",
        "tags": "{}",
        "name": "a b",
    }


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=1).filter(lambda s: s.strip("/. ")))
def test_every_name_becomes_one_that_mlflow_takes(name):
    cleaned = valid_name(f"data.{name}x")
    _validate_param_name(cleaned)


def test_a_good_name_stays():
    assert valid_name("val/f1_macro.best-1: x") == "val/f1_macro.best-1: x"


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=40)))
def test_no_value_is_cut(values):
    *texts, short = pairs("params", values, longest=20)
    assert short["values"].keys() == values.keys()
    by_file = {entry["file"]: entry["text"] for entry in texts}
    for name, value in values.items():
        kept = short["values"][name]
        assert kept == value if len(value) <= 20 else by_file[kept.rsplit(" ", 1)[-1]] == value


def test_another_long_value_goes_to_another_file():
    first, second = (pairs("params", {"a": letter * 30}, longest=20)[0]["file"] for letter in "xy")
    assert first != second


def test_entries_are_json():
    entries = pairs("tags", flatten({"a": {"b": 1}, "long": "z" * 30}), longest=20)
    assert json.loads(json.dumps(entries)) == entries
