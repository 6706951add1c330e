import pytest

from koa_lightning.config import key_help, keys, schema
from koa_lightning.config.compose import config_dir, groups

ENTRIES = sorted(path.stem for path in config_dir().glob("*.yaml"))


@pytest.fixture(scope="module")
def helps():
    """The text of --help of every command."""
    return {name: keys.help_text(name) for name in ENTRIES}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_key_is_shown_with_what_it_may_be(name, helps):
    lines = helps[name].partition("== What each key may be ==\n")[2].splitlines()
    shown = {line.partition(": ")[0]: line for line in lines}
    listed = {group.replace("/", ".") for group in groups()}  # above, with their choices
    wanted = {key for key in keys.known_keys(name) if schema.kind_of(key, name)} - listed
    assert wanted and wanted <= set(shown)
    assert all(schema.kind_of(key, name).words() in line for key, line in shown.items())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train", "data.image_size: a whole number from 16 to 4096  # pixels, the side of the square"),
        ("train", "data.canonical_side: one of L, R, or null  # L or R: mirror the knees of the other side to it"),
        ("train", "data.fit: one of letterbox, stretch"),
        ("train", "loss.gamma: a number from 0 to 100"),
        ("train", "optimizer.factory.nesterov: one of true, false"),
        ("train", "mix.until: a number from 0 to 1  # share of the epochs after which mixing stops"),
        ("server", "workers: a whole number from 1 to 1024  # processes that handle requests"),
        ("prune_checkpoints", "yes: one of true, false  # true: delete; false: only list what would be deleted"),
        ("register", "name: a name, e.g. name=koa-grader  # of the registered model; created if missing"),
        ("cross_validate", "fresh: one of true, false  # true: start again in a new folder"),
    ],
)  # fmt: skip
def test_lines(name, line, helps):
    assert line in helps[name].splitlines()


def test_a_comment_that_continues(helps):
    line = next(line for line in helps["eval"].splitlines() if line.startswith("ckpt: "))
    assert "or models:/NAME@ALIAS; or an ensemble: [A,B,C], a pattern, " in line


def test_keys_and_comments_of_a_text():
    text = """# about all
a: 1     # one,
         # and more
b:       # a branch
  c: x#y
  d: [1, 2]  # two
# apart
"e": 3
"""
    wanted = [("a", "one, and more"), ("b", "a branch"), ("b.c", ""), ("b.d", "two"), ("e", "")]
    assert list(key_help._in(text)) == wanted
