"""Train one network per fold; evaluate each on the patients it did not see: `python -m koa_lightning.cross_validate`.

`train` trains each fold in a process of its own: a fold that dies stops no other, its memory is freed (the tuned
allocator would keep it), and folds that run in parallel use the same code. The same command resumes an interrupted
cross-validation, as the folder's name follows from the settings.
"""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa cross_validate` and `python -m koa_lightning.cross_validate`."""
    run("cross_validate")


if __name__ == "__main__":
    main()
