"""Test the heat maps of a checkpoint: `python -m koa_lightning.explain_tests ckpt=FILE`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa explain_tests` and `python -m koa_lightning.explain_tests`."""
    run("explain_tests")


if __name__ == "__main__":
    main()
