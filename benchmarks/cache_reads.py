"""Whether an epoch over a cache that is larger than the memory needs more memory of the process's own.

    python -m benchmarks.cache_reads [ROWS ...]    # default 10,000 to 1,000,000: at 224 px 0.4 to 43 GB of cache

Each size runs in a process of its own: the data module opens the cache, and its training loader reads every knee of the
train split once, in random order. The process may take at most `ROOM` for itself (RLIMIT_DATA counts what malloc and
private mappings take, not the pages of a file that is mapped read-only), far less than the largest cache. The cache is
a file of holes (see `benchmarks.memory`): the system fills its pages and drops them as with any file, but the disk
stays empty, so the rate is not that of a disk.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import memory
from benchmarks.process import in_own_process

ROWS = (10_000, 100_000, 1_000_000)
SIZE = 224
ROOM = 2 << 30  # bytes
_EVERY = 100  # batches between two looks at the memory


def kept_by_process(name: str) -> int:
    """Return a line of the process's status in bytes, e.g. RssAnon (its own) or RssFile (pages of files it mapped)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) << 10


def read(n: int, size: int, folder: str, room: int) -> dict[str, float]:
    """Read each knee of the train split once from the cache of n made-up rows.

    Args:
        n: Rows.
        size: Of their images, pixels.
        folder: Where the cache lies, see `benchmarks.memory.lay_out_cache`.
        room: Bytes that the process may take for itself from now on.

    Returns:
        Bytes of the `cache`, the largest growth of the process's `own` memory and its part since the epoch began
        (`epoch`), the largest `mapped` memory, and the `rate` in images per second.

    Raises:
        MemoryError: The process needs more than the room.
    """
    from koa_lightning.data.datamodule import KneeDataModule
    from koa_lightning.data.preprocessing import Preprocessing

    limits, before = resource.getrlimit(resource.RLIMIT_DATA), kept_by_process("RssAnon")
    resource.setrlimit(resource.RLIMIT_DATA, (kept_by_process("VmData") + room, limits[1]))
    try:
        data = KneeDataModule(
            partial(memory.rows, n),
            name="made-up",
            preprocessing=Preprocessing(size),
            batch_size=64,
            cache_dir=folder,
            quiet=True,
        ).prepare(("train", "val"))
        opened, start, seen = kept_by_process("RssAnon"), time.perf_counter(), 0
        own, mapped = [opened], [0]
        for step, batch in enumerate(data.train_dataloader()):
            seen += len(batch["image"])
            if step % _EVERY == 0:
                own.append(kept_by_process("RssAnon"))
                mapped.append(kept_by_process("RssFile"))
        seconds = time.perf_counter() - start
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
    return {
        "cache": data.datasets["train"].images.nbytes,
        "own": max(own) - before,
        "epoch": max(own) - opened,
        "mapped": max(mapped),
        "rate": seen / seconds,
    }


def main(arguments: list[str]) -> None:
    """Print a row of a table for each size."""
    print("| rows | cache, GB | own memory, MB | of it in the epoch | pages of files, GB | images per second |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in map(int, arguments or ROWS):
        with tempfile.TemporaryDirectory() as folder:
            cache = str(Path(folder) / "cache")
            in_own_process("benchmarks.memory:lay_out_cache", n, SIZE, cache)
            found = in_own_process("benchmarks.cache_reads:read", n, SIZE, cache, ROOM)
        columns = (f"{n:,}", f"{found['cache'] / 1e9:.1f}", f"{found['own'] / 1e6:,.0f}",
                   f"{found['epoch'] / 1e6:,.0f}", f"{found['mapped'] / 1e9:.1f}", f"{found['rate']:,.0f}")  # fmt: skip
        print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
