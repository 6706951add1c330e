"""Evaluate a checkpoint: `python -m koa_lightning.eval ckpt=FILE split=test`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa eval` and `python -m koa_lightning.eval`."""
    run("eval")


if __name__ == "__main__":
    main()
