"""Run an MLflow server for several users, on PostgreSQL: `python -m koa_lightning.server`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa server` and `python -m koa_lightning.server`."""
    run("server")


if __name__ == "__main__":
    main()
