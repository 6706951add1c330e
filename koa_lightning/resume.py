"""Going on with a run: find its checkpoint, and the overrides that it was started with. No heavy imports here."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from koa_lightning.errors import InputError

DONE_FILE = "done.json"


def with_old_overrides(overrides: list[str]) -> list[str]:
    """Return the command line of `train ckpt=...` with the overrides of the run that is resumed put before it.

    What the user types now comes later and so wins. Without `ckpt` the line stays as it is.

    Raises:
        InputError: There is nothing to resume.
    """
    given = [item.removeprefix("ckpt=") for item in overrides if item.startswith("ckpt=")]
    if not given or given[-1] in ("null", ""):
        return overrides
    out = next((item.removeprefix("out=") for item in overrides if item.startswith("out=")), None)
    checkpoint = find(given[-1], Path(out) if out else None)
    folder = checkpoint.parent.parent
    record = folder / ".hydra" / "overrides.yaml"
    old = yaml.safe_load(record.read_text()) if record.is_file() else []
    new = [item for item in overrides if not item.startswith(("ckpt=", "out="))]
    typed = {_key(item) for item in new}
    kept = [item for item in old or [] if _key(item) not in typed and _key(item) not in ("ckpt", "out")]
    return [*kept, *new, f"ckpt='{checkpoint}'", f"out='{folder}'"]


def find(ckpt: str, out: Path | None) -> Path:
    """Return the checkpoint file that `ckpt` names; `last` is that of the newest run that has not finished.

    Raises:
        InputError: There is none.
    """
    if ckpt != "last":
        path = Path(ckpt.strip("'\"")).expanduser()
        if not path.is_file():
            raise InputError(f"ckpt={ckpt}: there is no such file; `ckpt=last` takes the newest unfinished run")
        return path
    if out is not None:
        path = out / "checkpoints" / "last.ckpt"
        if not path.is_file():
            raise InputError(f"ckpt=last: {path} is not there; nothing to resume")
        return path
    runs = sorted(Path("outputs").glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    unfinished = [path for path in runs if not (path.parent.parent / DONE_FILE).exists()]
    if not unfinished:
        reason = "every run under outputs/ has finished" if runs else "no run under outputs/ has a checkpoint"
        raise InputError(f"ckpt=last: {reason}; nothing to resume (a path goes on with a finished one)")
    return unfinished[-1]


def _key(override: str) -> str:
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]
