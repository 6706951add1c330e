"""Paths that a user typed, and the small files read there. No heavy imports here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from koa_lightning.errors import InputError

_LARGEST = 256_000_000  # bytes


def user_path(where: str | Path) -> Path:
    """Return a path as typed, with `~` and `~NAME` expanded to the home folder.

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
            f"{where}: there is no user for the home folder {user}; type the path in full, or ./{user} for "
            "a folder of this name"
        ) from None


def read_json(file: Path, advice: str = "give another file") -> Any:
    """Return the content of any JSON file; see `koa_lightning.config.json_files` for one with known fields.

    Args:
        file: An existing file.
        advice: What to do about a broken file.

    Raises:
        InputError: It is not a file, is too large, is not JSON, or is nested too deeply.
    """
    if not file.is_file():  # a pipe would block
        raise InputError(f"{file}: there is no such file; {advice}")
    if (size := file.stat().st_size) > _LARGEST:
        raise InputError(f"{file}: is too large ({size / 1e6:,.0f} MB) for its purpose; {advice}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{file}: nested too deeply to be read; {advice}") from None
    except ValueError as error:  # invalid JSON or UTF-8
        raise InputError(f"{file}: not JSON ({str(error).splitlines()[0]}); {advice}") from None


def replace_text(file: Path, text: str) -> None:
    """Write a file atomically: readers never see half of it, and a killed process leaves the old one whole."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_yaml(file: Path, advice: str = "give another file") -> Any:
    """Return the plain values in a YAML file.

    Args:
        file: An existing file.
        advice: What to do about a broken file.

    Raises:
        InputError: It is not plain YAML, or is nested too deeply.
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
    """Return one line that says what is wrong with a YAML file, and on which line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f" in line {mark.line + 1}" if mark else ""
    return f"not plain YAML{place} ({problem or str(error).splitlines()[0]})"
