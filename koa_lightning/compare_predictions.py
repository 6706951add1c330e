"""Compare two models on the same knees: `python -m koa_lightning.compare_predictions A B`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa compare_predictions` and `python -m koa_lightning.compare_predictions`."""
    run("compare_predictions")


if __name__ == "__main__":
    main()
