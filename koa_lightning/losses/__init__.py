"""Losses for ordered grades: one family per file, found by `conf/loss/*.yaml`."""

from __future__ import annotations

import importlib
import pkgutil


def __getattr__(name: str) -> type:
    """Return a loss by its name in version 0.1, e.g. `koa_lightning.losses.Focal`, so that old configs still run.

    The modules are searched here, so that no list of them has to be maintained.

    Raises:
        AttributeError: No module of this package defines such a class.
    """
    for module in pkgutil.iter_modules(__path__) if name[:1].isupper() else ():
        found = getattr(importlib.import_module(f"{__name__}.{module.name}"), name, None)
        if isinstance(found, type) and found.__module__ == f"{__name__}.{module.name}":
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
