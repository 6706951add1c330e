"""Whatever a stranger writes into the files of an evaluation: one line, or a report; never a traceback."""

import copy
import json
import random
import shutil

import pytest

from koa_lightning.config.json_files import misfit
from koa_lightning.errors import InputError
from koa_lightning.reporting import evaluation_files, report_data
from koa_lightning.reporting.report import contents

HOSTILE = [
    None, True, -1, 10**30, 1e308, float("nan"), float("-inf"), "", "x", "../../etc/passwd", "<script>",
    [], {}, [[]], [None], {"": None}, {"a": {}}, ["L"] * 5,
]  # fmt: skip
GONE = object()
INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6, "note": "a word"}
GROUP = {"column": "site", "group": "Ulm", "n_knees": 80, "n_patients": 40, "metric": "quadratic_kappa", **INTERVAL}
READER = {"first": "truth", "second": "reader_1", "metric": "quadratic_kappa", "n_knees": 5, **INTERVAL}
MORE = {
    "intervals": {"quadratic_kappa": INTERVAL, "accuracy": INTERVAL, "ece": {"value": None, "low": None, "high": None}},
    "subgroups": [GROUP, {**GROUP, "column": "all", "group": "all"}],
    "readers": [READER],
    "metrics": {"accuracy": 0.5},
    "thresholds": [1, 2, 3, 4],
}
KINDS = {**evaluation_files.SECTIONS, "evaluation": evaluation_files.ABOUT, "intervals": evaluation_files.INTERVALS,
         "subgroups": evaluation_files.SUBGROUPS, "audit": evaluation_files.AUDIT}  # fmt: skip


def places(node, path=()):
    """Yield the path of every entry; of a list its first two."""
    yield path
    if isinstance(node, dict):
        inside = list(node.items())
    else:
        inside = list(enumerate(node))[:2] if isinstance(node, list) else []
    for name, each in inside:
        yield from places(each, (*path, name))


def changed(content, path, value):
    """Return the content with another value, or without one, at a path."""
    if not path:
        return value
    content = copy.deepcopy(content)
    node = content
    for name in path[:-1]:
        node = node[name]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return content


@pytest.fixture
def contents_of(about, computed, audited):
    return {"evaluation": about, "audit": json.loads((audited / "audit.json").read_text()), **computed, **MORE}


def mutants(contents_of):
    """Return what a stranger may write, as (name of the file, content)."""
    return [
        (name, changed(content, path, value))
        for name, content in contents_of.items()
        for path in places(content)
        for value in [*HOSTILE, *([GONE] if path else [])]
    ]


def reported(folder, evaluated, contents_of, name, content):
    """Read a folder in which one file is another, and make all that a report says."""
    folder.mkdir()
    shutil.copy(evaluated / "predictions.parquet", folder)
    for each, right in {**contents_of, name: content}.items():
        (folder / f"{each}.json").write_text(json.dumps(right))
    found = report_data.read(folder, str(folder))
    contents.sections(found)
    contents.title(found), contents.subtitle(found)
    json.dumps(contents.as_json(found))


def test_what_the_program_writes_fits(contents_of, evaluated, tmp_path):
    assert {name: misfit(content, KINDS[name]) for name, content in contents_of.items()} == dict.fromkeys(
        contents_of, ""
    )
    reported(tmp_path / "whole", evaluated, contents_of, "metrics", MORE["metrics"])


def check(evaluated, contents_of, tmp_path, some):
    made = refused = 0
    for number, (name, content) in enumerate(some):
        try:
            reported(tmp_path / str(number), evaluated, contents_of, name, content)
            made += 1
        except InputError as error:
            assert f"{name}.json: " in str(error) or "names an ensemble" in str(error)
            assert "\n" not in str(error) and len(str(error)) < 500
            refused += 1
        except Exception as error:
            raise AssertionError((name, content)) from error
        finally:
            shutil.rmtree(tmp_path / str(number))
    return made, refused


def test_whatever_is_wrong_is_one_line(evaluated, contents_of, tmp_path):
    every = mutants(contents_of)
    wrong = [each for each in every if misfit(each[1], KINDS[each[0]])]
    right = [each for each in every if not misfit(each[1], KINDS[each[0]])]
    assert len(wrong) > 1000
    chance = random.Random(0)
    assert check(evaluated, contents_of, tmp_path, chance.sample(wrong, 3)) == (0, 3)
    check(evaluated, contents_of, tmp_path, chance.sample(right, 3))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_what_is_let_through_makes_a_report(part, evaluated, contents_of, tmp_path):
    right = [each for each in mutants(contents_of) if not misfit(each[1], KINDS[each[0]])]
    made, _ = check(evaluated, contents_of, tmp_path, random.Random(1).sample(right, len(right))[part::4][:60])
    assert made
