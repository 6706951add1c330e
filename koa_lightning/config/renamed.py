"""Names that changed since 0.1 and still occur in its checkpoints and run folders. No heavy imports here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_LOSSES = "koa_lightning.losses"  # module of all losses in 0.1; each now has its own module


def current(target: Any, known: Collection[Any]) -> Any:
    """Return the present name of what 0.1 called `koa_lightning.losses.NAME`; any other name is unchanged.

    Args:
        target: As recorded.
        known: The names that configs use now; only these are returned, so a file cannot name its own code.
    """
    if not isinstance(target, str) or target.rpartition(".")[0] != _LOSSES:
        return target
    return next((each for each in known if target in aliases([each])), target)


def aliases(targets: Collection[Any]) -> list[str]:
    """Return the 0.1 names of those targets that moved."""
    parts = [each.split(".") for each in targets if isinstance(each, str) and each.startswith(f"{_LOSSES}.")]
    return [f"{_LOSSES}.{each[-1]}" for each in parts if len(each) == 4]
