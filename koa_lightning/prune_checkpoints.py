"""Delete the checkpoints that nobody needs: `python -m koa_lightning.prune_checkpoints sweep_run=ID keep=3`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa prune_checkpoints` and `python -m koa_lightning.prune_checkpoints`."""
    run("prune_checkpoints")


if __name__ == "__main__":
    main()
