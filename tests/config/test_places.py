import json
from pathlib import Path

import pytest
import yaml

import koa_lightning
from koa_lightning.checkpoint import find
from koa_lightning.config import json_files, run_folder
from koa_lightning.config.json_files import Fields
from koa_lightning.config.kinds import Text
from koa_lightning.config.places import read_json, read_yaml, replace_text, user_path
from koa_lightning.data.prepare.record import FILE, Record
from koa_lightning.errors import InputError
from koa_lightning.explain.stages import Stages
from koa_lightning.metrics import thresholds
from koa_lightning.reporting import evaluation_files, report_data
from koa_lightning.sweeps import cross_validate
from koa_lightning.tracking import spool
from koa_lightning.training import precision

DEEP = "[" * 100_000


def _read_intervals(file):
    return report_data._read(file, evaluation_files.INTERVALS)


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a b") == tmp_path / "a b"
    assert user_path("a/~b") == Path("a/~b")
    assert user_path(Path("/x")) == Path("/x")


@pytest.mark.parametrize("where", ["~nouser", "~nouser/a/b.ckpt", "~no user/x"])
def test_the_home_of_nobody_is_one_line(where):
    user = where.partition("/")[0]
    with pytest.raises(InputError) as caught:
        user_path(where)
    assert str(caught.value).startswith(f"{where}: there is no user for the home folder {user}")
    assert "\n" not in str(caught.value)


def test_no_other_way_to_a_home_folder():
    files = Path(koa_lightning.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "expanduser" in file.read_text()] == ["places.py"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (DEEP, "nested too deeply to be read"),
        ("{", "not JSON (Expecting property name"),
        ("", "not JSON (Expecting value"),
        ("[]", "it=[...]: must be an entry with run_id"),
        ("{}", "has no entry run_id"),
        (b"\xff\xfe", "not JSON ("),
    ],
)
def test_a_broken_json_file_is_one_line(content, reason, tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        json_files.read(file, Fields({"run_id": Text()}), "start again")
    assert str(caught.value).startswith(f"{file}: {reason}") and str(caught.value).endswith("; start again")
    assert "\n" not in str(caught.value)


def test_whole_files(tmp_path):
    (tmp_path / "x.json").write_text('{"run_id": 1}')
    assert read_json(tmp_path / "x.json") == {"run_id": 1}
    (tmp_path / "x.yaml").write_text("- seed=1\n- name=\u00f6\n", encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml") == ["seed=1", "name=\u00f6"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: [1", "not plain YAML in line "),
        ("a: !!python/object:os.system {}", "not plain YAML in line 1 (could not determine a constructor"),
        ("a: 1\n b: : 2", "not plain YAML in line 2"),
        (DEEP, "nested too deeply to be read"),
        (b"a: \xff", "not UTF-8"),
    ],
)
def test_a_broken_yaml_file_is_one_line(content, reason, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("thresholds.json", lambda file: thresholds.read(str(file), None)),
        ("audit.json", report_data.read_audit),
        ("any.json", _read_intervals),
        ("cross_validation.json", lambda file: find.of_folds(file.parent)),
        ("cross_validation.json", lambda file: cross_validate._begun(file.parent, {})),
        ("tests.json", lambda file: Stages(file, "key", print)),
        (FILE, lambda file: Record(file.parent, {})),
        (".hydra/overrides.yaml", lambda file: run_folder.recorded(file.parent.parent)),
    ],
)
def test_whatever_a_command_reads_may_be_nested_too_deeply(name, reads, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(DEEP + "\n")
    with pytest.raises(InputError):
        reads(file)


def test_what_is_made_again_where_it_is_broken(tmp_path):
    (tmp_path / "speed.json").write_text(DEEP)
    assert precision._remembered(tmp_path / "speed.json") == {}
    assert spool._parse(DEEP) is None


def test_yaml_and_json_are_what_they_were(tmp_path):
    content = {"a": [1, None, "b"], "c": {"d": 1.5}}
    (tmp_path / "x").write_text(json.dumps(content))
    assert read_json(tmp_path / "x") == read_yaml(tmp_path / "x") == yaml.safe_load(json.dumps(content))


def test_a_text_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "page.html"
    replace_text(file, "first \ud800 é")  # a lone half of a surrogate pair
    assert file.read_text(encoding="utf-8") == "first ? é"
    monkeypatch.setattr(type(file), "replace", lambda self, other: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace_text(file, "second")
    assert file.read_text(encoding="utf-8") == "first ? é"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
