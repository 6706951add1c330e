"""Send what a training could not log: `python -m koa_lightning.tracking.resend FOLDER [uri=ADDRESS]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from koa_lightning.config import trusted
from koa_lightning.config.outcome import BAD_INPUT, DONE, say_error
from koa_lightning.errors import InputError
from koa_lightning.tracking import spool as spool_file
from koa_lightning.tracking import unsent
from koa_lightning.tracking.deliver import deliver
from koa_lightning.tracking.store import failing_as_input_error, open_store


def main(argv: Sequence[str] | None = None) -> int:
    """Send the file of a run folder in its order and remove it; sending twice does no harm.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        0 when nothing is left to send, 2 after one line that says what is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m koa_lightning.tracking.resend", description=__doc__)
    parser.add_argument("folder", type=Path, help=f"the run folder, or its {spool_file.FILE}")
    wanted = "the server to send to, if MLFLOW_TRACKING_URI does not name it"
    parser.add_argument("uri", nargs="?", metavar="uri=ADDRESS", help=wanted)
    try:
        typed = parser.parse_args(argv)
        print(resend(typed.folder, _address(typed.uri)))
    except InputError as error:
        say_error(str(error))
        return BAD_INPUT
    return DONE


def _address(typed: str | None) -> str | None:
    if typed is None:
        return None
    key, _, uri = typed.partition("=")
    if key != "uri" or not uri:
        raise InputError(f"{typed}: must be uri=ADDRESS, the store to send to")
    return uri


def resend(folder: Path, uri: str | None = None) -> str:
    """Deliver the unsent entries of a run folder; only files below that folder are sent.

    Args:
        folder: The run folder, or the file in it.
        uri: The store; None takes the one that the file names, if it is that of MLFLOW_TRACKING_URI or a database on
            this machine.

    Returns:
        One line that says what was sent.

    Raises:
        InputError: When there is no such folder, the file names another store or holds what no training
            writes, the store fails, or it refuses an entry. Entries that were not sent stay in the file.
    """
    path = folder if folder.name == spool_file.FILE else folder / spool_file.FILE
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; name the run folder that the training named")
    if not path.exists() and not path.is_symlink():
        return f"{path.parent}: nothing waits to be sent"

    spool = spool_file.Spool.load(path)
    where = trusted.Place(uri, refused=False) if uri else trusted.place(None, spool.uri)
    if where.refused:
        raise InputError(
            f"{path}: names the store {trusted.shown(spool.uri)}, which is neither that of {trusted.VARIABLE} nor a "
            "database on this machine; if it is yours, type its address after the folder: uri=ADDRESS"
        )
    unsent.check(spool)
    store = open_store(where.uri, path.parent, create=False)
    with failing_as_input_error(f"{path}"), spool.lock:
        entries = spool.read()
        delivery = deliver(store.client(), spool.run_id, entries)
        spool.replace(delivery.left)
    n_sent = len(entries) - len(delivery.left)
    sent = f"{n_sent} of {len(entries)} entries of run {trusted.shown(spool.run_id)} sent to {store.name}"
    if delivery.left:
        reason = delivery.outage or "; ".join(dict.fromkeys(delivery.refused))
        raise InputError(f"{path}: {sent}; not accepted: {reason}; correct it and send again, or remove the file")
    return sent


if __name__ == "__main__":
    sys.exit(main())
