"""koa_lightning: an experiment bench for grading knee osteoarthritis on radiographs.

    import koa_lightning as koa

    result = koa.train("model=efflite0", "data.root=FOLDER")   # overrides as typed on the command line
    grader = koa.load_model(result.checkpoint)                 # also a list; default: the bundled checkpoint
    table = grader.predict(["knee.png", array])                # a DataFrame, one row per image
    heat = grader.explain("knee.png", method="gradcam")        # float32 H x W of the original image
    metrics = koa.evaluate(grader, "FOLDER")                   # name -> value with its interval

Research use only, not a medical device. This file has no heavy imports, so that `--help` prints at once: each
function is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koa_lightning.evaluation.api import evaluate as evaluate
    from koa_lightning.evaluation.predictor import Predictor as Predictor
    from koa_lightning.evaluation.predictor import load_model as load_model
    from koa_lightning.training.api import Training as Training
    from koa_lightning.training.api import train as train

__version__ = "0.2.0.dev0"
__all__ = ["DISCLAIMER", "Predictor", "Training", "__version__", "evaluate", "load_model", "train"]
DISCLAIMER = "research use only, not a medical device"  # on every page, figure and report

_PUBLIC = {
    "train": "koa_lightning.training.api",
    "Training": "koa_lightning.training.api",
    "load_model": "koa_lightning.evaluation.predictor",
    "Predictor": "koa_lightning.evaluation.predictor",
    "evaluate": "koa_lightning.evaluation.api",
}


class _Package(ModuleType):
    """This package: its public functions are imported on first use, and no command of the same name hides them.

    Python sets a submodule as an attribute of its package. `koa_lightning.train` is such a submodule, the command; it
    stays in `sys.modules`, and `python -m koa_lightning.train` and `from koa_lightning.train import main` work.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
