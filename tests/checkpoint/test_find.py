from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from koa_lightning.checkpoint import find
from koa_lightning.config.overrides import quote_paths
from koa_lightning.errors import InputError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fold_10", "fold_2", "other run"):
        (tmp_path / "outputs" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "outputs" / name / "checkpoints" / "best.ckpt").touch()
    return [Path(f"outputs/{name}/checkpoints/best.ckpt") for name in ("fold_2", "fold_10", "other run")]


def test_one_file_stays_one_even_if_it_is_missing(runs):
    assert find.find(str(runs[0]), None) == [runs[0]]
    assert find.find("missing.ckpt", None) == [Path("missing.ckpt")]


def test_a_list_as_typed_or_as_given(runs):
    assert find.find(f"[{runs[2]}, '{runs[0]}']", None) == [runs[2], runs[0]]
    assert find.find([runs[2], str(runs[0])], None) == [runs[2], runs[0]]


def test_a_name_in_quotes_may_hold_commas(runs):
    assert find.find("['a,b/1.ckpt', c.ckpt,\"d,'e'.ckpt\"]", None) == [
        *map(Path, ("a,b/1.ckpt", "c.ckpt", "d,'e'.ckpt"))
    ]
    assert find.find("[it's.ckpt,b.ckpt]", None) == [Path("it's.ckpt"), Path("b.ckpt")]


@pytest.mark.parametrize(
    "names",
    [["a.ckpt", "b c.ckpt"], ["a,b.ckpt", "c.ckpt"], ["it's, so.ckpt", '"c".ckpt', "[d].ckpt", " e"], ["f,g.ckpt"]],
)
def test_files_as_typed_are_found_again(names, runs):
    files = [*map(Path, names)]
    for file in files:
        file.touch()
    [item] = quote_paths([f"ckpt={find.typed(files)}"])
    assert find.find(OverridesParser.create().parse_override(item).value(), None) == files
    assert find.typed([Path("a.ckpt"), Path("b.ckpt")]) == "[a.ckpt,b.ckpt]"


def test_a_pattern_in_natural_order(runs):
    assert find.find("outputs/fold_*/checkpoints/best.ckpt", None) == runs[:2]


def test_a_file_whose_name_looks_like_a_list(runs, tmp_path):
    Path("[a,b]").touch()
    assert find.find("[a,b]", None) == [Path("[a,b]")]


@pytest.mark.parametrize(
    ("ckpt", "line"),
    [
        ("nothing/*.ckpt", "ckpt=nothing/\\*.ckpt: no file matches this pattern"),
        ("[a.ckpt,]", "an entry of the list is empty"),
        ("[a.ckpt,a.ckpt]", "a.ckpt is named twice"),
    ],
)
def test_what_names_nothing(ckpt, line, runs):
    with pytest.raises(InputError, match=line):
        find.find(ckpt, None)


def test_a_cross_validation_has_all_its_folds(tmp_path):
    (tmp_path / "cross_validation.json").write_text('{"settings": {"data.folds": 2}}')
    files = [tmp_path / f"fold_{fold}" / "checkpoints" / "best.ckpt" for fold in range(2)]
    for file in files:
        file.parent.mkdir(parents=True)
    files[0].touch()
    with pytest.raises(InputError, match=r"fold_1/checkpoints/best.ckpt is missing; finish the cross-validation"):
        find.find(str(tmp_path), None)
    files[1].touch()
    assert find.find(str(tmp_path), None) == files


def test_names(runs):
    assert find.names(runs) == ["fold_2", "fold_10", "other run"]
    assert find.names([Path("a/x/checkpoints/b.ckpt"), Path("b/x/checkpoints/b.ckpt")]) == ["x (1)", "x (2)"]
    assert find.names([Path("model.ckpt"), Path("store/0123456789/artifacts/checkpoints/b.ckpt")]) == [
        "model",
        "01234567",
    ]


@pytest.mark.parametrize(
    "text", ["", "[", "5", "{}", '{"settings": []}', '{"settings": {"data.folds": 1000000000000}}']
)
def test_the_record_of_a_cross_validation_that_is_damaged(text, tmp_path):
    (tmp_path / "cross_validation.json").write_text(text)
    wrong = r"has no valid|not JSON|has no entry|it=5: must be|settings=\[...\]: must be"
    with pytest.raises(InputError, match=rf"cross_validation\.json:? ({wrong})"):
        find.find(str(tmp_path), None)
