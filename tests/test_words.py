"""Words and names that this package gave up stay away: see docs/glossary.md for those that it uses."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("koa_lightning", "hydra_plugins", "benchmarks", "experiments", "tests", "docs")
PROSE = (*CODE, "conf", "README.md", "CONTRIBUTING.md")

# What a name must not contain between underscores -> the word in use.
NAMES = {
    "anew": "again", "dossier": "report_data", "foreign": "out_of_distribution", "judge": "choose",
    "judged": "checked", "told": "settings", "truth": "reference", "unseen": "training_overlap",
}  # fmt: skip
# Whole names that the package itself must not have; elsewhere they may mean something else.
IN_PACKAGE = {
    "marks": "caveats", "measured": "the thing's own name", "promised": "nominal", "gone": "dead",
    "rests": "frozen", "PARTS": "SPLITS",
}  # fmt: skip
# Phrases of a sentence -> what a reader expects.
PHRASES = {
    r"\b(go|goes|going|went) on\b": "continue, resume",
    r"\bat rest\b": "frozen",
    r"\banew\b": "again",
    r"\bwhence\b": "from where",
    r"\bleft (out|away)\b": "omitted",
    r"\bleave [\w.=]+ (out|away)\b": "omit",
    r"\bcarr(y|ies) the mark\b": "carries the caveat",
    r"\b(is|are|was|were) told\b": "receives, is configured",
    r"\btold (apart|from)\b": "distinguished",
    r"\bthrown? away\b": "discarded",
    r"\bthat was so\b": "observed frequency",
    r"\b(train|training|val|validation|test|official) parts?\b": "split",
    r"\bin two parts\b": "in two splits",
    r"\bforeign (input|image|knee|kind)s?\b": "out-of-distribution",
    r"\bknees? of (a )?(un)?known grade\b": "labelled, unlabelled",
    r"\bholds? the true grade\b": "contains, coverage",
}


def files(places, *endings):
    for place in places:
        path = ROOT / place
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in endings)
        yield from (file for file in found if file != Path(__file__))


def names_in(tree):
    """Yield every name that a module defines or uses, with its line."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                yield value, getattr(node, "lineno", 0)
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno


def wrong_names(source, is_package):
    for name, line in names_in(ast.parse(source)):
        words = set() if name.startswith("test_") else set(name.strip("_").lower().split("_")) & set(NAMES)
        if words or (is_package and name.strip("_") in IN_PACKAGE):
            yield f"line {line}: {name}: {', '.join(NAMES[word] for word in words) or IN_PACKAGE[name.strip('_')]}"


def wrong_phrases(text):
    if not re.search("|".join(PHRASES), text, re.IGNORECASE):
        return  # as nearly always
    for number, line in enumerate(text.splitlines(), 1):
        for phrase, word in PHRASES.items():
            if re.search(phrase, line, re.IGNORECASE):
                yield f"line {number}: {line.strip()[:80]!r}: {word}"


def test_no_name_is_one_that_was_given_up():
    wrong = [
        f"{file.relative_to(ROOT)}: {each}"
        for file in files(CODE, ".py")
        for each in wrong_names(file.read_text(), file.is_relative_to(ROOT / "koa_lightning"))
    ]
    assert wrong == []


def test_no_sentence_has_a_phrase_that_was_given_up():
    kinds = (".py", ".md", ".yaml", ".toml", ".j2", ".ipynb")
    wrong = [
        f"{file.relative_to(ROOT)}: {each}" for file in files(PROSE, *kinds) for each in wrong_phrases(file.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "is_package", "found"),
    [
        ("told = 1", False, "line 1: told: settings"),
        ("def f(x_foreign): ...", False, "line 1: x_foreign: out_of_distribution"),
        ("import a as truth", False, "line 1: truth: reference"),
        ("x.marks", True, "line 1: marks: caveats"),
        ("x.marks", False, None),
        ("def test_what_it_was_told(): ...", False, None),
    ],
)
def test_a_name_is_found(source, is_package, found):
    assert next(wrong_names(source, is_package), None) == found


@pytest.mark.parametrize("line", ["# It goes on.", '"""At rest."""', "the test part", "A patient is in two parts"])
def test_a_phrase_is_found(line):
    assert len(list(wrong_phrases(f"x = 1\n{line}"))) == 1
    assert list(wrong_phrases("a part of the page; 1.5 times, in part")) == []
