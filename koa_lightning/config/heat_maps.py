"""The heat-map methods: files of the group `explain` that name a function. No heavy imports here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from koa_lightning.config import folders


@dataclass(frozen=True)
class Method:
    """A method as declared by `explain/NAME.yaml` in any folder of configs.

    Attributes:
        name: Its name in `explain.method`.
        file: Where it is declared.
        target: Address of the function, see `koa_lightning.explain.methods.function`.
        title: Its name in figures (`_title_`).
        slow: Whether it passes an image through the network many times (`_slow_`).
    """

    name: str
    file: Path
    target: str
    title: str
    slow: bool


def declared() -> dict[str, Method]:
    """Return all methods by name, including those of a typed `--config-dir`."""
    found: dict[str, Method] = {}
    for file, content in folders.contents("explain"):
        name = str(content.get("method", file.stem))
        if isinstance(target := content.get("_target_"), str):
            title = str(content.get("_title_", name))
            found.setdefault(name, Method(name, file, target, title, content.get("_slow_", False) is True))
    return found


def names() -> list[str]:
    """Return the names of all methods."""
    return list(declared())


def titles() -> dict[str, str]:
    """Return the title of each method in figures."""
    return {name: method.title for name, method in declared().items()}


def is_slow(name: str) -> bool:
    """Tell whether a method passes an image through the network many times."""
    method = declared().get(name)
    return method is not None and method.slow
