"""The network: backbone, head, initial weights, outputs and inference."""

from koa_lightning.models.importing import compiler_later

with compiler_later():
    import timm  # noqa: F401  # first here, so that no module below brings the compiler
