"""Train a network a fold and evaluate each on the patients it did not see: `python -m koa_lightning.cross_validate`.

Each fold is trained by `train`, in a process of its own: one that dies takes no other along, its memory is given back
(the tuned allocator would keep it), and folds that run at the same time are the same code. The same command continues
with what was interrupted, as the folder's name follows from the settings.
"""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa cross_validate` and `python -m koa_lightning.cross_validate`."""
    run("cross_validate")


if __name__ == "__main__":
    main()
