"""The names of rebuilt cache files: the old file stays for processes that have mapped it.

If another node replaced the file on a network drive, a node would lose its mapped pages and die (SIGBUS).
"""

from __future__ import annotations

import sys
from pathlib import Path


def editions(final: Path) -> list[Path]:
    """Return the existing files of a cache, newest first; all but the original were rebuilt."""
    numbered = [(int(file.stem.rpartition(".")[2]), file) for file in final.parent.glob(f"{final.stem}.[0-9]*.npy")]
    later = [file for _, file in sorted(numbered, reverse=True)]
    return [*later, final] if final.exists() else later


def next_edition(final: Path) -> Path:
    """Return the name for the file to be built now."""
    there = editions(final)
    if not there:
        return final
    print(f"WARNING: {there[0]}: damaged, or some images are readable now; rebuilding it", file=sys.stderr, flush=True)
    last = 0 if there[0] == final else int(there[0].stem.rpartition(".")[2])
    return final.with_name(f"{final.stem}.{last + 1}.npy")
