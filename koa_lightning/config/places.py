"""What a user typed as a place, and the small files that are read there. No heavy imports here."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from koa_lightning.errors import InputError


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


def read_json(file: Path, entries: Sequence[str] = (), advice: str = "give another file") -> Any:
    """Return what a JSON file holds.

    Args:
        file: That is there.
        entries: That it must have.
        advice: What to do about one that is broken.

    Raises:
        InputError: It is no JSON, nested too deeply, or lacks an entry.
    """
    try:
        found = json.loads(file.read_text())
    except RecursionError:
        raise InputError(f"{file}: nested too deeply to be read; {advice}") from None
    except ValueError as error:  # of JSON, and of UTF-8
        raise InputError(f"{file}: not JSON ({str(error).splitlines()[0]}); {advice}") from None
    lacking = entries if not isinstance(found, dict) else [name for name in entries if name not in found]
    if lacking:
        raise InputError(f"{file}: has no entry {lacking[0]}; {advice}")
    return found


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
