"""Fit a checkpoint's calibration on its validation split: `python -m koa_lightning.calibrate ckpt=FILE`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa calibrate` and `python -m koa_lightning.calibrate`."""
    run("calibrate")


if __name__ == "__main__":
    main()
