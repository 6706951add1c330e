"""Find the checkpoints that `ckpt` names: one, a list, a pattern, or the folds of a cross-validation.

No heavy imports here.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from koa_lightning import pretrained
from koa_lightning.config import json_files, run_files
from koa_lightning.config.overrides import quote, unquote
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

Fetch = Callable[[str], list[Path]]
ADDRESSES = ("runs:/", "models:/")
"""Prefixes of the address of a checkpoint in a tracking store."""
BEST = Path("checkpoints") / "best.ckpt"
_ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]*?)\s*,""")  # a list item; quotes hold commas
_SPECIAL = re.compile(r"[,'\"]|^\s|\s$")
_MOST_FOLDS = 1000
_CROSS_VALIDATION = "cross_validation.json"  # see koa_lightning.cross_validate


def find(ckpt: Any, fetch: Fetch) -> list[Path]:
    """Return the files that `ckpt` names, in the order given (those of a pattern or of folds in natural order).

    Args:
        ckpt: `pretrained`, a file, `runs:/ID[/path]`, `models:/NAME@ALIAS`, a pattern, the folder or the
            run of a cross-validation, or a list of these, also typed as `[A,B]`; a quoted item may hold commas.
        fetch: Returns the local files of an address (`runs:/...`, `models:/...`), see `koa_lightning.tracking.find`.

    Raises:
        InputError: An item names no file, or a checkpoint is named twice.
    """
    given = [str(item) for item in ckpt] if isinstance(ckpt, ListConfig | list | tuple) else _listed(str(ckpt))
    files = [file for item in given for file in _files(item, fetch)]
    twice = [file for number, file in enumerate(files) if file in files[:number]]
    if twice:
        raise InputError(f"ckpt={ckpt}: {twice[0]} is named twice; an ensemble takes each checkpoint once")
    return files


def typed(files: Sequence[Path]) -> str:
    """Return the value of `ckpt` for these files: `A.ckpt`, or `[A.ckpt,'B,C.ckpt']`, with quotes where needed."""
    if len(files) == 1:
        return str(files[0])
    return f"[{','.join(quote(name) if _SPECIAL.search(name) else name for name in map(str, files))}]"


def _listed(text: str) -> list[str]:
    if not (text.startswith("[") and text.endswith("]")) or Path(text).exists():
        return [text]
    items = [unquote(item) for item in _ITEM.findall(f"{text[1:-1]},")]
    if not all(items):
        raise InputError(f"ckpt={text}: an entry of the list is empty; type ckpt=[A.ckpt,B.ckpt]")
    return items


def _files(item: str, fetch: Fetch) -> list[Path]:
    if item.startswith(ADDRESSES):
        return fetch(item)
    if item == pretrained.NAME:
        return [pretrained.file()]
    path = user_path(item)
    if path.is_dir() and (path / _CROSS_VALIDATION).is_file():
        return of_folds(path)
    if path.exists() or not glob.has_magic(item):
        return [path]
    found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]  # noqa: PTH207
    if not found:
        raise InputError(f"ckpt={item}: no file matches this pattern; type e.g. ckpt='outputs/*/checkpoints/best.ckpt'")
    return sorted(found, key=_natural)


def of_folds(folder: Path) -> list[Path]:
    """Return the best checkpoint of each fold of a finished cross-validation."""
    settings = json_files.read(folder / _CROSS_VALIDATION, run_files.CROSS_VALIDATION)["settings"]
    n_folds = settings.get("data.folds")
    if type(n_folds) is not int or not 2 <= n_folds <= _MOST_FOLDS:
        raise InputError(
            f"ckpt={folder}: its {_CROSS_VALIDATION} has no valid data.folds and may be damaged; list the checkpoints"
        )
    files = [folder / f"fold_{fold}" / BEST for fold in range(n_folds)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"ckpt={folder}: {missing[0]} is missing; finish the cross-validation first (repeat its command)"
        )
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", str(path))]


def names(files: Sequence[Path]) -> list[str]:
    """Return a short name for each checkpoint: that of its run folder, else of its file; repeats are numbered."""
    short = [_short(file) for file in files]
    return [f"{name} ({short[:i].count(name) + 1})" if short.count(name) > 1 else name for i, name in enumerate(short)]


def _short(file: Path) -> str:
    run = file.parent.parent
    if file.parent.name != "checkpoints" or not run.name:
        return file.stem
    return run.parent.name[:8] if run.name == "artifacts" else run.name  # in a store: the run's id
