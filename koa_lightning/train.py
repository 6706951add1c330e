"""Train a network that grades knees: `python -m koa_lightning.train model=effb3 loss=focal`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa train` and `python -m koa_lightning.train`."""
    run("train")


if __name__ == "__main__":
    main()
