"""Turn DICOM and other images into pseudonymous PNG: `python -m koa_lightning.prepare input=FOLDER output=FOLDER`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa prepare` and `python -m koa_lightning.prepare`."""
    run("prepare")


if __name__ == "__main__":
    main()
