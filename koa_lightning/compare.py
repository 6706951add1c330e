"""Compare the settings, metrics and curves of runs: `python -m koa_lightning.compare RUN RUN ...`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa compare` and `python -m koa_lightning.compare`."""
    run("compare")


if __name__ == "__main__":
    main()
