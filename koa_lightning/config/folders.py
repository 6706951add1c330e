"""The folders that hold configs: the installed one, then those the user typed. No heavy imports here.

Code comes from the configs in these folders and from typed overrides, never from a name that a checkpoint or a run
folder records. All recorded names are looked up here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).resolve().parents[1]
_typed: list[Path] = []


def config_dir() -> Path:
    """Return the folder of the installed configs: inside the package, or `conf/` of a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def use(folders: Sequence[str | Path]) -> None:
    """Set the folders of `--config-dir` with which this process was started; an empty list clears earlier ones."""
    _typed[:] = [path for path in (Path(folder).absolute() for folder in folders) if path.is_dir()]


def typed() -> tuple[Path, ...]:
    """Return the folders of `--config-dir`."""
    return tuple(_typed)


def flags() -> list[str]:
    """Return the flags with which another command uses these folders; Hydra accepts one `--config-dir`."""
    return ["--config-dir", str(_typed[0])] if _typed else []


def all_folders() -> tuple[Path, ...]:
    """Return the installed folder, then the typed ones; of two files with the same name Hydra takes the first."""
    return (config_dir(), *_typed)


def find(name: str) -> Path | None:
    """Return the file of a config, e.g. `loss/focal`, or None if no folder has it."""
    return next((file for folder in all_folders() if (file := folder / f"{name}.yaml").is_file()), None)


def files_of(group: str) -> list[Path]:
    """Return the files of a group, e.g. `loss`, sorted by name; of several with the same name, the first folder's."""
    by_name: dict[str, Path] = {}
    for folder in all_folders():
        for file in sorted((folder / group).glob("*.yaml")):
            by_name.setdefault(file.stem, file)
    return [by_name[name] for name in sorted(by_name)]


def groups() -> list[str]:
    """Return the installed config groups, e.g. `loss`, `sweep/pruner`; a folder `_NAME` offers no choices."""
    found = (path for path in config_dir().rglob("*") if path.is_dir() and any(path.glob("*.yaml")))
    paths = (path.relative_to(config_dir()) for path in found)
    return sorted(path.as_posix() for path in paths if not any(part.startswith("_") for part in path.parts))


def choices_of(group: str) -> list[str]:
    """Return the names in a config group, e.g. `loss` -> ce, focal, ..., including those of `--config-dir`."""
    return [file.stem for file in files_of(group) if not file.stem.startswith("_")]


def contents(group: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each readable file of a group with its plain values; Hydra reports the unreadable ones."""
    for file in files_of(group):
        if isinstance(found := plain(file), dict):
            yield file, found


def plain(file: Path) -> Any:
    """Return the plain values of an existing YAML file; None if it cannot be read."""
    return _parsed(file, file.stat().st_mtime_ns)


@functools.cache
def _parsed(file: Path, changed: int) -> Any:
    """Return the plain values of a YAML file, parsed once per time of change."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
