"""The required content of the JSON files in a run folder, checked before use. No heavy imports here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koa_lightning.config.json_files import Fields, misfit
from koa_lightning.config.kinds import Kind, Many, Mapped, Number, Text, Whole

_TEXT, _NUMBER = Text(empty=True), Number(-1e300, 1e300, null=True)
_RUN_ID = Text(empty=True, null=True)
METRICS = Mapped(_NUMBER)


def _numbers(value: Mapping[str, Any]) -> str:
    return misfit(dict(value), METRICS)


OF_RUN = Fields({"run_id": _RUN_ID})  # the part of `done.json` needed to find a run
DONE = Fields({"best_epoch": Whole(0, 1_000_000), "run_id": _RUN_ID})
FOLD = Fields(
    {
        "metrics": Fields({"loss": _NUMBER, "n_knees": Whole(1, 10**9)}, rule=_numbers),
        "marks": Many(_TEXT),
        "weights": _TEXT,
        "split": _TEXT,
    }
)
CROSS_VALIDATION = Fields(
    {"settings": Mapped(Kind(null=True))}, {"run_id": _RUN_ID, "uri": Text(empty=True, null=True)}
)
ENSEMBLE = Fields({"ensemble": METRICS, "members": Many(Fields({"checkpoint": _TEXT}))})
EXPLANATIONS = Fields({"key": _TEXT, "done": Mapped(Kind(null=True)), "seconds": Mapped(Number(0, 1e9))})
