"""The names of a cache file that was built again: the old file stays for those who have mapped it.

On a network drive a node would lose its pages with the file, and die of it (SIGBUS), when another node replaces it.
"""

from __future__ import annotations

import sys
from pathlib import Path


def editions(final: Path) -> list[Path]:
    """Return the files of a cache that are there, the newest first; those after the first were built again."""
    numbered = [(int(file.stem.rpartition(".")[2]), file) for file in final.parent.glob(f"{final.stem}.[0-9]*.npy")]
    later = [file for _, file in sorted(numbered, reverse=True)]
    return [*later, final] if final.exists() else later


def next_edition(final: Path) -> Path:
    """Return the name of the file that is built now."""
    there = editions(final)
    if not there:
        return final
    print(f"WARNING: {there[0]}: damaged, or some images can be read now; it is rebuilt", file=sys.stderr, flush=True)
    last = 0 if there[0] == final else int(there[0].stem.rpartition(".")[2])
    return final.with_name(f"{final.stem}.{last + 1}.npy")
