"""Report on an evaluation, for a paper's supplement: `python -m koa_lightning.report ckpt=FOLDER`, or `table=FILE`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa report` and `python -m koa_lightning.report`."""
    run("report")


if __name__ == "__main__":
    main()
