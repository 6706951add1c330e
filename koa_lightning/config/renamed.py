"""Names that changed since 0.1 and stand in its checkpoints and run folders. No heavy imports here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_LOSSES = "koa_lightning.losses"  # 0.1 named its classes there; each is in a module of its own now


def current(target: Any, known: Collection[Any]) -> Any:
    """Return the present name of what 0.1 called `koa_lightning.losses.NAME`; any other name as it is.

    Args:
        target: As recorded.
        known: The names that configs use now, which decide: a file names no code of its own.
    """
    if not isinstance(target, str) or target.rpartition(".")[0] != _LOSSES:
        return target
    return next((each for each in known if target in aliases([each])), target)


def aliases(targets: Collection[Any]) -> list[str]:
    """Return the names that 0.1 had for those of these targets that moved."""
    parts = [each.split(".") for each in targets if isinstance(each, str) and each.startswith(f"{_LOSSES}.")]
    return [f"{_LOSSES}.{each[-1]}" for each in parts if len(each) == 4]
