"""Report the results of a sweep: `python -m koa_lightning.sweep_report name=STUDY`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa sweep_report` and `python -m koa_lightning.sweep_report`."""
    run("sweep_report")


if __name__ == "__main__":
    main()
