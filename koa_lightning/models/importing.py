"""timm without torch's compiler, whose import takes half as long as torch's own.

Two imports of timm bring the compiler, and grading never uses it: torchvision's RoIAlign takes one function of it, and
NaFlexViT marks methods that must not be compiled. Here both ask for it when they are first called.
"""

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"


class _StandIn(ModuleType):
    """For the compiler's `utils` while timm is imported; whatever else is asked of it comes from the compiler."""

    def is_compile_supported(self, device_type: Any) -> Any:
        return _utils().is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_utils(), name)


def _utils() -> ModuleType:
    _remove()
    return importlib.import_module(_UTILS)


def _remove() -> None:
    if isinstance(sys.modules.get(_UTILS), _StandIn):
        del sys.modules[_UTILS]


def disable(function: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Mark a function as `torch.compiler.disable` does, without the compiler until the function is called."""
    if function is None:
        return functools.partial(disable, recursive=recursive, reason=reason)
    made: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def later(*args: Any, **kwargs: Any) -> Any:
        if _COMPILER not in sys.modules:  # nothing is compiled
            return function(*args, **kwargs)
        if not made:
            made.append(_torch_disable(function, recursive, reason=reason))
        return made[0](*args, **kwargs)

    later._torchdynamo_disable = True  # type: ignore[attr-defined]  # by this the compiler knows it
    return later


_torch_disable = torch.compiler.disable


@contextmanager
def compiler_later() -> Iterator[None]:
    """Import timm inside this: the compiler stays out unless it is there already.

    Nor does Python look for garbage: an import makes thousands of objects and leaves none behind.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        if _COMPILER in sys.modules:
            yield
            return
        sys.modules[_UTILS] = _StandIn(_UTILS)
        torch.compiler.disable = disable
        yield
    finally:
        torch.compiler.disable = _torch_disable
        _remove()
        if collected:
            gc.enable()
