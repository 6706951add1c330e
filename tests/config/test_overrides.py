import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koa_lightning.config.overrides import check_places, key, quote, quote_paths, short_names, sort_out, value
from koa_lightning.errors import InputError

PARSER = OverridesParser.create()


def read_back(override):
    found = PARSER.parse_override(override).value()
    return getattr(found, "text", found)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=20))
@example("out put/a=b,c [1]{2}(3)")
@example("it's")
@example("a\\'b\\")
@example("*?[0-9].png")
@settings(max_examples=80, deadline=None)
def test_a_quoted_text_is_read_as_it_is(text):
    assert read_back(f"out={quote(text)}") == text


@pytest.mark.parametrize("text", ["a b", "it's", "x=y,z", '"', "~/ü"])
def test_value_undoes_quote(text):
    assert value(f"ckpt={quote(text)}") == text
    assert value(f"ckpt={text}") == text


@pytest.mark.parametrize(
    ("override", "expected"),
    [("data.root=x", "data.root"), ("+loss.gamma=2", "loss.gamma"), ("++a=1", "a"), ("~loss", "loss"), ("a@b=c", "a")],
)
def test_key(override, expected):
    assert key(override) == expected


def test_only_paths_are_quoted():
    typed = ["ckpt=a b=c", "loss=ce,focal", "out='already'", "input=null", "data.root=${oc.env:HOME}/x", "quiet"]
    assert quote_paths(typed) == ["ckpt='a b=c'", *typed[1:]]


def test_flags_may_stand_anywhere():
    assert sort_out(["seed=1", "--cfg", "job", "model=effb0"]) == (["--cfg", "job"], ["seed=1", "model=effb0"])
    assert sort_out(["a=1", "-m", "b=1,2"]) == (["-m"], ["a=1", "b=1,2"])


def test_an_unknown_flag_is_named():
    with pytest.raises(InputError, match=r"^--epochs: no such option; type settings as key=value"):
        sort_out(["--epochs", "5"])


@pytest.mark.parametrize("override", ["out=", "ckpt=''", "input= ", "out=null", "data.root=", "tracking.uri=''"])
def test_a_place_without_a_name_is_refused(override):
    with pytest.raises(InputError, match=f"^{override}: the name is empty; type {key(override)}=NAME"):
        check_places(["seed=1", override])


def test_other_values_may_be_empty():
    check_places(["side=", "ckpt=null", "out=x", "data.root=null", "name=''"])


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["optimizer.lr", "loss"], ["lr", "loss"]),
        (["optimizer.lr", "head.lr"], ["optimizer.lr", "head.lr"]),
        (["data/source", "model"], ["source", "model"]),
        (["+augment.ops.blur.p", "augment.ops.sharp.p", "+augment.ops.sharp.x"], ["blur.p", "sharp.p", "x"]),
        (["p", "a.p", "b.a.p"], ["p", "a.p", "b.a.p"]),
        ([], []),
    ],
)  # fmt: skip
def test_a_key_is_named_by_just_as_many_words_as_tell_it_from_the_others(keys, short):
    assert list(short_names(keys).values()) == short


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), unique=True, max_size=8))
def test_short_names_differ(keys):
    named = short_names(keys)
    assert len(set(named.values())) == len(keys)
    assert all(each == name or each.endswith(f".{name}") for each, name in named.items())
