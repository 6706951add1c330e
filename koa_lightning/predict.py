"""Grade radiographs: `python -m koa_lightning.predict input=FILE|FOLDER|'GLOB' [ckpt=FILE]`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa predict` and `python -m koa_lightning.predict`."""
    run("predict")


if __name__ == "__main__":
    main()
