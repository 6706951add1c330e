import re
import time
from pathlib import Path

import pytest

from koa_lightning.config.compose import config_dir
from koa_lightning.data import patterns, sources
from koa_lightning.data.patterns import MEAN_SECONDS, START_SECONDS, NamePattern
from koa_lightning.data.sources.folder import folder as rows_of_folder
from koa_lightning.errors import InputError

NAME = "a" * 120 + "!.png"
CATASTROPHIC = [
    r"(?P<patient>(a+)+)$",
    r"^(?P<patient>(a|aa)+)$",
    r"^(?P<patient>(a|a?)+)$",
    r"^(?P<patient>(?:a|b|ab|aa)*)[.]x",
    r"(?P<patient>a{1,60}){1,60}b",
    r"^(?P<patient>(.*a){20})b",
    r"(?P<patient>(\w+\s?)*)$",
    r"(?P<patient>(?=(a|aa)+$)b)",
    r"(?P<patient>(?R))",
    r"(?P<patient>(?:abcdefghabcdefgh){e<=12})$",
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_no_pattern_takes_long(pattern):
    compiled, began = NamePattern(pattern), time.monotonic()
    try:
        compiled.read(NAME)
    except InputError as error:
        assert str(error).startswith(f"data.pattern={pattern}: takes too long to read the name {NAME}")
        assert "\n" not in str(error)
    assert time.monotonic() - began < 5


@pytest.mark.sample(1)
@pytest.mark.parametrize("pattern", [CATASTROPHIC[1], CATASTROPHIC[4]])
def test_a_pattern_that_takes_too_long_is_named(tmp_path, pattern):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / NAME).touch()
    said = re.escape(f"data.pattern={pattern}: takes too long to read the name")
    with pytest.raises(InputError, match=said):
        rows_of_folder(str(tmp_path), pattern)  # typed, or of a checkpoint's own data
    with pytest.raises(InputError, match=said):
        patterns.named(f"any/{NAME}", patterns.pattern_of({"pattern": pattern}))  # of a checkpoint


def test_many_names_that_take_just_less_than_the_limit_have_a_limit_too(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("koa_lightning.data.patterns.time.thread_time", lambda: next(clock) * 0.4)
    pattern = NamePattern("(?P<patient>a)")
    pattern.read("a")
    pattern.read("a")
    with pytest.raises(InputError, match="takes too long to read 3 names such as a;"):
        pattern.read("a")


def test_a_plain_pattern_is_far_from_the_limits():
    text = (config_dir() / "data" / "folder.yaml").read_text()
    pattern = NamePattern(re.search(r"^pattern: '(.*)'$", text, re.MULTILINE)[1])
    began = time.thread_time()
    for number in range(2000):
        assert pattern.read(f"sub-{number:04d}_left.png") == (f"sub-{number:04d}", "L")
    assert time.thread_time() - began < START_SECONDS + 2000 * MEAN_SECONDS / 2


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(" * 900, "not a regular expression"),
        ("(?P<patient>" + "(" * 400 + "a" + ")" * 400 + ")", ""),
        ("(?P<patient>a)" * 100_000, "longer than 1000 characters"),
        ("(?P<patient>[" + "a-z" * 50_000 + "])", "longer than 1000 characters"),
        (r"(?P<patient>a{1,99999999999999999999999})", "not a regular expression"),
        (r"\L<list>(?P<patient>a)", "not a regular expression"),
        (r"(?P<patient>a", "not a regular expression"),
        (b"(?P<patient>a)", "not a regular expression"),
        (["(?P<patient>a)"], "not a regular expression"),
        ({"patient": 1}, "not a regular expression"),
        (1.5, "not a regular expression"),
        (True, "not a regular expression"),
    ],
)
def test_what_is_no_pattern_is_one_short_line(pattern, why):
    try:
        NamePattern(pattern).read("a.png")
    except InputError as error:
        assert why in str(error)
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 400
    else:
        assert not why


@pytest.mark.parametrize("pattern", ["[*]" + "*a" * 40 + "*b", "{}" + "*?" * 60 + "x"])
def test_a_glob_of_many_stars_is_read_at_once(tmp_path, pattern):
    from koa_lightning.data.find_images import find_images

    (tmp_path / ("a" * 200 + ".png")).touch()
    began = time.monotonic()
    with pytest.raises(InputError, match="no image found"):
        find_images(str(Path(tmp_path, pattern.replace("[*]", "*").replace("{}", ""))))
    assert time.monotonic() - began < 5


def test_only_one_module_compiles_what_a_user_or_a_file_gives():
    """A new pattern must go through NamePattern; those that are compiled from a literal are ours."""
    package = Path(sources.__file__).parents[2]
    given = re.compile(r"\bre\.(?:compile|search|match|fullmatch|sub|split|findall|finditer)\((?![rfb]*[\"'])\s*(\w+)")
    found = {
        (file.name, name) for file in sorted(package.rglob("*.py")) for name in given.findall(file.read_text("utf-8"))
    }
    # `pattern` of failures.py is a key of a table in it, `_OF_SWEEP` and `IMAGES` are literals
    assert found <= {("failures.py", "pattern"), ("best.py", "_OF_SWEEP"), ("record.py", "IMAGES")}
