"""From a part of a config with `_target_` to the object it describes."""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from koa_lightning.errors import InputError


def located(target: str, file: Path) -> Any:
    """Return the function or class at an address that a config names.

    Args:
        target: `package.module.name`.
        file: Config that names it, installed or in a typed `--config-dir`; never a checkpoint.

    Raises:
        InputError: Its module cannot be imported or has no such name.
    """
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{file}: _target_={target}: {error}; name an importable function or class (is its folder on PYTHONPATH?)"
        ) from error


def made(node: Any, key: str, **more: Any) -> Any:
    """Return the object that a part of the config describes.

    Args:
        node: Config with `_target_`.
        key: Of the node, for messages.
        more: Further arguments.

    Raises:
        InputError: It cannot be made with these settings.
    """
    try:
        return _checked(instantiate(node, **more), key)
    except InstantiationException as error:
        cause = error.__cause__
        # Lightning's own error, matched by name: an import here would make every command load Lightning
        is_misconfigured = type(cause).__name__ == "MisconfigurationException"
        if isinstance(cause, TypeError | ValueError | ImportError) or is_misconfigured or cause is None:
            reason = str(cause or error).strip().splitlines()[0]
            raise InputError(f"{key}: {reason}; see conf/{key.split('.')[0]}/ for what it takes") from error
        raise


def _checked(found: Any, key: str) -> Any:
    """Return the object; if it is a function to call later, check first that it accepts its settings."""
    if isinstance(found, functools.partial):
        try:
            inspect.signature(found.func).bind_partial(*found.args, **found.keywords)
        except TypeError as error:
            raise InputError(f"{key}: {error}; see conf/{key.split('.')[0]}/ for what it takes") from None
    return found
