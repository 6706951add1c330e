"""Export a checkpoint: `python -m koa_lightning.export format=onnx|openvino|torchscript [ckpt=FILE]`."""

from koa_lightning.config.launch import run


def main() -> None:
    """Entry point of `koa export` and `python -m koa_lightning.export`."""
    run("export")


if __name__ == "__main__":
    main()
