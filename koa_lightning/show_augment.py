"""Look at an augmentation before training with it: `python -m koa_lightning.show_augment out=FOLDER augment=strong`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa show_augment` and `python -m koa_lightning.show_augment`."""
    run("show_augment")


if __name__ == "__main__":
    main()
