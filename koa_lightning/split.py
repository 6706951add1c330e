"""Write a split to a file for others to repeat: `python -m koa_lightning.split data=chen2018 data.root=FOLDER`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa split` and `python -m koa_lightning.split`."""
    run("split")


if __name__ == "__main__":
    main()
