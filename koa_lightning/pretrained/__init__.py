"""The grader in the box: `ckpt=pretrained`. Its card, `card.md`, says what it is; `experiments/grader` remakes it.

Research use only, not a medical device.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from koa_lightning.errors import InputError

NAME = "pretrained"
"""What `ckpt` says to have it; a file of this name is `./pretrained`."""
FOLDER = Path(__file__).parent
WEIGHTS, FACTS, CARD = FOLDER / "grader.safetensors", FOLDER / "grader.json", FOLDER / "card.md"


def file() -> Path:
    """Return the file of the grader, whose bytes are those that were published.

    Raises:
        InputError: It is missing, or changed.
    """
    again = "install koa-lightning again, or name a checkpoint: ckpt=FILE"
    try:
        content, facts = WEIGHTS.read_bytes(), json.loads(FACTS.read_text())
    except (OSError, ValueError, RecursionError):
        raise InputError(f"ckpt={NAME}: this installation has no grader in it; {again}") from None
    if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise InputError(f"ckpt={NAME}: {WEIGHTS.name} is damaged: its checksum is not that of {FACTS.name}; {again}")
    return WEIGHTS
