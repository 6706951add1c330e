"""Grade radiographs over HTTP, with a page for readers: `python -m koa_lightning.serve ckpt=FILE`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa serve` and `python -m koa_lightning.serve`."""
    run("serve")


if __name__ == "__main__":
    main()
