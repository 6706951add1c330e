import pytest
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.config import overrides, typed
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["a", "b"], ["runs=['a','b']"]),
        (["a", "out=x", "effb3-ce lr=1e-3"], ["out=x", "runs=['a','effb3-ce lr=1e-3']"]),
        (["search=params.seed = '1'"], ["search=params.seed = '1'"]),
        (["runs=[a,b]", "~search"], ["runs=[a,b]", "~search"]),
        (["it's"], ["runs=['it\\'s']"]),
        ([], []),
    ],
)
def test_words_that_are_no_settings_are_runs(items, expected):
    assert typed.with_runs(items) == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["a.csv", "b.csv", "out=x"], ["first='a.csv'", "second='b.csv'", "out=x"]),
        (["first=a.csv", "second=b.csv"], ["first=a.csv", "second=b.csv"]),
        (["a.csv", "second=b.csv"], ["first='a.csv'", "second=b.csv"]),
        ([], []),
    ],
)
def test_words_that_are_no_settings_are_tables(items, expected):
    assert typed.with_tables(items) == expected


def test_a_folder_with_an_equals_sign_in_its_name_is_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1e-3").mkdir()
    assert typed.with_tables(["lr=1e-3", "first=lr=1e-3"]) == ["first='lr=1e-3'", "first=lr=1e-3"]


def test_a_third_table_is_refused():
    with pytest.raises(InputError, match=r"^c: compare_predictions takes two tables; type compare_predictions A B$"):
        typed.with_tables(["a", "b", "c"])


def test_places_are_named_in_full_so_that_they_hold_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["data=chen2018", "data.root=knees", "tracking.uri=sqlite:///mlruns/x.db"]
    cfg = compose("train", options)
    typed.name_places(cfg)
    assert (cfg.data.root, cfg.data.split_table) == (str(tmp_path / "knees"), None)
    assert cfg.tracking.uri == f"sqlite:///{tmp_path}/mlruns/x.db"
    typed.name_places(cfg)  # once is as good as twice
    assert cfg.tracking.uri == f"sqlite:///{tmp_path}/mlruns/x.db"
    elsewhere = compose("train", ["tracking.uri=http://host/sqlite:///x"])
    typed.name_places(elsewhere)
    assert elsewhere.tracking.uri == "http://host/sqlite:///x"


def test_runs_named_in_two_ways():
    with pytest.raises(InputError, match=r"a: runs=\[...\] lists runs too"):
        typed.with_runs(["a", "runs=[b]"])


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1), min_size=1, max_size=3))
def test_any_name_arrives_as_it_was_typed(names):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [name for name in names if not typed._SETTING.fullmatch(name)]
    if words:
        (item,) = typed.with_runs(words)
        parsed = OverridesParser.create().parse_override(item).value()
        assert [str(getattr(value, "text", value)) for value in parsed] == words
        assert overrides.key(item) == "runs"


def test_settings_of_the_run_are_told_from_its_own():
    assert typed.with_more(["run=a", "data.root=a b", "out=x"]) == ["run=a", "out=x", "more=['data.root=a b']"]
    assert typed.with_more(["run=a", "run_it=false"]) == ["run=a", "run_it=false"]


def folder_of(*items):
    return overrides.value(typed.with_folder(list(items))[-1])


@pytest.mark.slow
def test_the_folder_follows_from_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual = folder_of("data=chen2018", "data.root=knees")
    assert usual == folder_of("data=chen2018", f"data.root='{tmp_path}/knees'")
    for same in ("quiet=true", "parallel=2", "tracking=none", "name=x", "explain=none", "data.cache_dir=x"):
        assert folder_of("data=chen2018", "data.root=knees", same) == usual
    others = ["data.folds=4", "loss=focal", "model=resnet18", "seed=1", "data.split_seed=1", "trainer.max_epochs=9"]
    assert len({usual, *(folder_of("data=chen2018", "data.root=knees", other) for other in others)}) == 7
    assert typed.with_folder(["out=x"]) == ["out=x"]
    assert typed.with_folder(["fresh=true"]) == ["fresh=true"]
