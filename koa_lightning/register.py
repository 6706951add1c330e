"""Store a run's best checkpoint in the model registry: `python -m koa_lightning.register run=ID name=koa-grader`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa register` and `python -m koa_lightning.register`."""
    run("register")


if __name__ == "__main__":
    main()
