"""Send what a training could not log: `python -m koa_lightning.tracking.resend FOLDER`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from koa_lightning.config.launch import BAD_INPUT, DONE, say_error
from koa_lightning.errors import InputError
from koa_lightning.tracking import spool as spool_file
from koa_lightning.tracking.deliver import deliver
from koa_lightning.tracking.store import failing_as_input_error, open_store, public


def main(argv: Sequence[str] | None = None) -> int:
    """Send the file of a run folder in its order and remove it; sending twice does no harm.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        0 when nothing is left to send, 2 after one line that says what is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m koa_lightning.tracking.resend", description=__doc__)
    parser.add_argument("folder", type=Path, help=f"the run folder, or its {spool_file.FILE}")
    try:
        print(resend(parser.parse_args(argv).folder))
    except InputError as error:
        say_error(str(error))
        return BAD_INPUT
    return DONE


def resend(folder: Path) -> str:
    """Deliver what waits in a run folder.

    Args:
        folder: The run folder, or the file in it.

    Returns:
        One line that says what was sent.

    Raises:
        InputError: When there is no such folder, the store fails, or it refuses an entry.
    """
    path = folder if folder.name == spool_file.FILE else folder / spool_file.FILE
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; name the run folder that the training named")
    if not path.exists():
        return f"{path.parent}: nothing waits to be sent"

    spool = spool_file.Spool.load(path)
    store = open_store(spool.uri, path.parent, create=False)
    with failing_as_input_error(f"{path}"), spool.lock:
        entries = spool.read()
        delivery = deliver(store.client(), spool.run_id, entries)
        spool.replace(delivery.left)
    n_sent = len(entries) - len(delivery.left)
    sent = f"{n_sent} of {len(entries)} entries of run {spool.run_id} sent to {public(spool.uri)}"
    if delivery.left:
        reason = delivery.outage or "; ".join(dict.fromkeys(delivery.refused))
        raise InputError(f"{path}: {sent}; not taken: {reason}; put it right and send again, or remove the file")
    return sent


if __name__ == "__main__":
    sys.exit(main())
