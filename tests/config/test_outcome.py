import errno

import pytest
import yaml
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from koa_lightning.config.outcome import one_line, say_error
from koa_lightning.errors import InputError

ADVICE = "fix this, or name another folder with out=FOLDER"


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("what is wrong"), "what is wrong"),
        (caused(InstantiationException("x"), InputError("within")), "within"),
        (
            OSError(errno.ENOSPC, "", "a/b"),
            "a/b: no space left on the disk; fix this, or name another folder with out=FOLDER",
        ),
        (OSError("lost"), f"a file or an address: lost; {ADVICE}"),
        (ValueError("a fault"), None),
        (caused(RuntimeError("outer"), ValueError("inner")), None),
    ],
)
def test_what_a_user_reads(error, line):
    assert one_line(error) == line


def test_a_broken_yaml_file_is_named(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: [")
    with file.open() as stream, pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load(stream)
    assert one_line(caught.value).startswith(f"{file}: not plain YAML in line 1")


def test_a_missing_key_is_named():
    with pytest.raises(MissingMandatoryValue) as caught:
        OmegaConf.create({"a": {"b": "???"}}).a.b  # noqa: B018
    assert one_line(caught.value) == "a.b: must be given; type a.b=VALUE"


def test_an_error_is_printed_in_one_line(capsys):
    say_error("one\n  two")
    assert capsys.readouterr().err == "error: one two\n"
