"""What a user typed as a place, and the small files that are read there. No heavy imports here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from koa_lightning.errors import InputError

_LARGEST = 256_000_000  # bytes


def user_path(where: str | Path) -> Path:
    """Return a path as it was typed, with `~` and `~NAME` as the home folder that they stand for.

    Args:
        where: A file or folder.

    Raises:
        InputError: There is no such user.
    """
    try:
        return Path(where).expanduser()
    except RuntimeError:
        user = Path(where).parts[0]
        raise InputError(
            f"{where}: {user} is no home folder here, as there is no such user; type the path in full, or ./{user} for "
            "a folder of this name"
        ) from None


def read_json(file: Path, advice: str = "give another file") -> Any:
    """Return what a JSON file holds, whatever it is; see `koa_lightning.config.json_files` for one of known fields.

    Args:
        file: That is there.
        advice: What to do about one that is broken.

    Raises:
        InputError: It is no file, larger than such a file can be, no JSON, or nested too deeply.
    """
    if not file.is_file():  # a pipe would be waited for
        raise InputError(f"{file}: there is no such file; {advice}")
    if (size := file.stat().st_size) > _LARGEST:
        raise InputError(f"{file}: {size / 1e6:,.0f} MB are too many for what it should hold; {advice}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{file}: nested too deeply to be read; {advice}") from None
    except ValueError as error:  # of JSON, and of UTF-8
        raise InputError(f"{file}: not JSON ({str(error).splitlines()[0]}); {advice}") from None


def replace_text(file: Path, text: str) -> None:
    """Write a file in one step: no reader sees half of it, and a kill leaves the old one whole."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_yaml(file: Path, advice: str = "give another file") -> Any:
    """Return the plain values that a YAML file holds.

    Args:
        file: That is there.
        advice: What to do about one that is broken.

    Raises:
        InputError: It is no plain YAML, or nested too deeply.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{file}: nested too deeply to be read; {advice}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 ({error}); {advice}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file}: {yaml_fault(error)}; {advice}") from None


def yaml_fault(error: yaml.YAMLError) -> str:
    """Return in one line what is wrong with a YAML file, and in which line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f" in line {mark.line + 1}" if mark else ""
    return f"not plain YAML{place} ({problem or str(error).splitlines()[0]})"
