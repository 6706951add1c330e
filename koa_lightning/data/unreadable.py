"""Images that cannot be read: they stop a command, or are skipped if the user asks for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from koa_lightning.errors import InputError

_SHOWN = 3  # reasons in a message


def readable(n: int, reasons: Mapping[int, str], on_unreadable: str) -> tuple[np.ndarray, str]:
    """Return which of n images can be read (bool, N), and words about the others ("" if there are none).

    Args:
        n: Number of images.
        reasons: Number of an image -> why it cannot be read.
        on_unreadable: `stop` or `skip`.

    Raises:
        InputError: An image cannot be read, and `on_unreadable` is `stop`.
    """
    found = np.ones(n, dtype=bool)
    if not reasons:
        return found, ""
    found[list(reasons)] = False
    shown = "; ".join(list(reasons.values())[:_SHOWN])
    if len(reasons) > _SHOWN:
        shown += f"; and {len(reasons) - _SHOWN} more"
    if on_unreadable == "stop":
        raise InputError(
            f"{len(reasons)} image(s) cannot be read: {shown}; repair them, or type data.on_unreadable=skip"
        )
    return found, f"{len(reasons)} image(s) skipped: {shown}"
