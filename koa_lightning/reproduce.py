"""Train a run once more and compare every metric: `python -m koa_lightning.reproduce run=ID`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa reproduce` and `python -m koa_lightning.reproduce`."""
    run("reproduce")


if __name__ == "__main__":
    main()
