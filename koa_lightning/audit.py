"""Find leakage, duplicates and faults in a folder of knees: `python -m koa_lightning.audit data.root=FOLDER`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa audit` and `python -m koa_lightning.audit`."""
    run("audit")


if __name__ == "__main__":
    main()
