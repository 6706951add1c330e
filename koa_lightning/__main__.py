"""The list of commands: `python -m koa_lightning`, or `koa`; `koa COMMAND ...` runs one."""

# Not click or typer: Hydra parses the arguments of every command, so only the name of the command is left to read here.

from __future__ import annotations

import runpy
import sys

from koa_lightning import DISCLAIMER
from koa_lightning.config.commands import COMMANDS, table
from koa_lightning.config.compose import nearest


def main() -> None:
    """Print the list of commands, or run the one that is named first; an unknown name ends with exit code 2."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(f"{table()}\n\n{DISCLAIMER}")
        return
    if name not in COMMANDS:
        print(f"error: {name}: no such command{nearest(name, list(COMMANDS))} (koa --help lists them)", file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [f"koa {name}"]
    runpy.run_module(f"koa_lightning.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
