"""What the files in an evaluation's folder must contain; checked before a report uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koa_lightning.config.json_files import Fields, misfit
from koa_lightning.config.kinds import Flag, Kind, Many, Mapped, Number, OneOf, Text, Whole
from koa_lightning.models.outputs import N_GRADES

_N, _NUMBER, _OR_NULL = Whole(0, 2**53), Number(-1e9, 1e9), Number(-1e9, 1e9, null=True)
_SHARE, _SHARE_OR_NULL = Number(-1.0, 2.0), Number(-1.0, 2.0, null=True)
_TEXT, _TEXT_OR_NULL = Text(empty=True), Text(empty=True, null=True)
_GRADES = Many(_N, length=N_GRADES)
METRICS = Mapped(_OR_NULL)


def _ends(value: Mapping[str, Any]) -> str:
    one = (value.get("low") is None) != (value.get("high") is None)
    return "has only one end of its interval" if one else ""


INTERVAL = Fields(may={"value": _OR_NULL, "low": _OR_NULL, "high": _OR_NULL, "note": _TEXT_OR_NULL}, rule=_ends)


def _unless_left_out(kind: Fields) -> Fields:
    """Return the kind of a file that has this content, or says in `left_out` why it does not."""

    def rule(value: Mapping[str, Any]) -> str:
        return "" if value.get("left_out") else misfit(dict(value), kind).removeprefix("it: ")

    return Fields(may={"left_out": _TEXT}, rule=rule)


def _drawn(bins: Any) -> str:
    if not any(row["n"] for row in bins):
        return "no bin contains a knee"
    return "a bin with knees has no share" if any(row["n"] and None in row.values() for row in bins) else ""


def _calibration(value: Mapping[str, Any]) -> str:
    sides = ("before",) if value["method"] == "none" else ("before", "after")
    for name in () if value["method"] == "none" else ("parameters", "measured"):
        if name not in value:
            return f"has no entry {name}"
    for side in sides:
        if any(side not in value.get(name, {}) for name in ("bins", "bins_oa")) or side not in value:
            return f"has no entry {side}"
        if why := _drawn(value["bins"][side]) or _drawn(value["bins_oa"][side]):
            return f"{side}: {why}"
    return ""


_BINS = Mapped(
    Many(Fields({"low": _SHARE, "high": _SHARE, "n": _N, "confidence": _SHARE_OR_NULL, "share": _SHARE_OR_NULL}))
)
_SCORES = Fields({"ece": _NUMBER, "log_loss": _NUMBER}, dict.fromkeys(("ece_classwise", "brier", "rps"), _OR_NULL))
_CALIBRATION = Fields(
    {"method": _TEXT, "before": _SCORES, "bins": _BINS, "bins_oa": _BINS},
    {"after": _SCORES, "parameters": Mapped(_NUMBER), **dict.fromkeys(("measured", "left_out", "lost"), _TEXT)},
    rule=_calibration,
)
_OF_GRADE = Fields({"n": _N, "coverage": _SHARE_OR_NULL, "size": _OR_NULL})


def _grades_alone(value: Mapping[str, Any]) -> str:
    strange = set(value) - {str(grade) for grade in range(N_GRADES)}
    return f"{sorted(strange)[0][:20]!r} is not a grade" if strange else ""


_CONFORMAL = Fields(
    {
        "alpha": _SHARE, "coverage": _SHARE, "mean_size": _NUMBER,
        "by_grade": Fields(may={str(grade): _OF_GRADE for grade in range(N_GRADES)}, rule=_grades_alone),
    },
    {"measured": _TEXT, "sizes": Mapped(_N)},
)  # fmt: skip
_ABSTENTION = Fields(
    {
        "curve": Many(Many(_SHARE, length=2)), "risk": _SHARE, "threshold": _OR_NULL, "n_knees": _N,
        **dict.fromkeys(("aurc", "best_aurc"), _NUMBER),
        **dict.fromkeys(("coverage_at_threshold", "risk_at_threshold"), _SHARE_OR_NULL),
    },
    rule=lambda value: "" if value["curve"] else "its curve is empty",
)  # fmt: skip
_INPUTS = Fields({"n_flagged": _N, "n_inputs": _N, "expected_share": _SHARE, "measured": _TEXT})
_ENDS = {"low": _OR_NULL, "high": _OR_NULL}
_TESTED = Fields(
    may={
        **dict.fromkeys(("map", "random", "centre", "difference"), _OR_NULL), **_ENDS, "rule": _TEXT,
        "curve": Mapped(Many(_NUMBER)),
    },
    rule=_ends,
)  # fmt: skip
_CONTROLS = dict.fromkeys(("map", "random", "centre"), _OR_NULL)
_SHORTCUT = dict.fromkeys(("kappa", "without_joint", "only_joint", "survives"), _OR_NULL)
_LAYER = Fields({"layer": _TEXT, "similarity": _OR_NULL}, _ENDS, rule=_ends)
_EXPLANATIONS = Fields(
    {"method": _TEXT, "n": _N, "verdicts": Mapped(_TEXT)},
    {
        "target": _TEXT, "n_patients": _N, "faithfulness": Mapped(_TESTED),
        "sanity": Fields(may={"layers": Many(_LAYER), "rule": _TEXT}),
        "noise": Fields({"verdict": _TEXT}, {"similarity": _OR_NULL, **_ENDS, "rule": _TEXT}, rule=_ends),
        "localisation": Fields(
            may={"region": _TEXT, "area": _OR_NULL, "rule": _TEXT, "share": Fields(may=_CONTROLS)}
        ),
        "shortcut": Fields(may={**_SHORTCUT, "rule": _TEXT}),
    },
)  # fmt: skip
_MEMBER = Fields({"name": _TEXT, "n_knees": _N, "intervals": Mapped(INTERVAL)})
_READERS = Many(Fields({"first": _TEXT, "second": _TEXT, "metric": _TEXT, "n_knees": _N}, {**INTERVAL.may}, rule=_ends))
_FOLD = Fields(
    {"n_knees": _N, "quadratic_kappa": _OR_NULL},
    dict.fromkeys(("accuracy", "balanced_accuracy", "mae", "auroc_oa", "ece"), _OR_NULL),
)
_SPREAD = Fields({"mean": _OR_NULL, "sd": _OR_NULL})


def _spread(value: Mapping[str, Any]) -> str:
    spread = value.get("between_folds")
    return "between_folds has no entry n_knees" if spread and "n_knees" not in spread else ""


# By the name of the file, without `.json`.
SECTIONS: Mapping[str, Kind] = {
    "calibration": _CALIBRATION,
    "conformal": _unless_left_out(_CONFORMAL),
    "abstention": _unless_left_out(_ABSTENTION),
    "inputs": _unless_left_out(_INPUTS),
    "explanations": _EXPLANATIONS,
    "ensemble": Fields({"members": Many(_MEMBER), "said": _TEXT, "calibrated": _TEXT}),
    "readers": _READERS,
    "thresholds": Kind(),  # only its presence counts
    "metrics": Fields(may={"folds": Many(_FOLD), "between_folds": Mapped(_SPREAD)}, rule=_spread),
}  # fmt: skip
INTERVALS = Mapped(INTERVAL)
SUBGROUPS = Many(
    Fields(
        {"column": _TEXT, "group": _TEXT, "metric": _TEXT, "n_knees": _N, "n_patients": _N},
        {**INTERVAL.may},
        rule=_ends,
    )
)
_NAMED = {"name": _TEXT, "fingerprint": _TEXT}
_MODEL = Fields(
    {
        "name": _TEXT, "sha256": _TEXT, "epoch": _N, "n_parameters": _N, "version": _TEXT, "weights": _TEXT,
        "net": Fields({"name": _TEXT, "link": _TEXT, "mean": _NUMBER, "std": _NUMBER}),
        "preprocessing": Fields(
            {"image_size": _N, "fit": _TEXT},
            {"canonical_side": _TEXT_OR_NULL, "fix_polarity": Flag(), "top": _SHARE, "bottom": _SHARE},
        ),
        "config": Fields(
            {"data": Fields(may={"batch_size": _N, "sampler": _TEXT})},
            {
                "name": _TEXT_OR_NULL, "monitor": _TEXT, "model": Fields(may={"label": _TEXT}),
                "optimizer": Fields(may=dict.fromkeys(("lr", "weight_decay"), _NUMBER) | {"layer_decay": _OR_NULL}),
                "trainer": Fields({"max_epochs": _N}), "resize": Fields(may={"first": _NUMBER}),
                "loss": Fields(may={"class_weights": _TEXT}), "callbacks": Mapped(Kind(null=True)),
                "mix": Fields(may=dict.fromkeys(("mixup", "cutmix"), _OR_NULL)),
                "teacher": Fields(may={"weight": _OR_NULL, "per": _TEXT}),
                "augment": Fields(may={"ops": Mapped(Mapped(Kind(null=True), null=True), null=True)}),
            },
        ),
        "data": Fields({**_NAMED, "counts": Mapped(_GRADES)}, {"split": _TEXT}),
        "plan": Fields({"precision": _TEXT}),
        "training": Fields(may={"epochs": _N, "parts": Mapped(Fields({"n_patients": _N}))}),
    },
    {"grade_names": Many(_TEXT, length=N_GRADES), "loss": _TEXT, "made_of": Mapped(_TEXT)},
)  # fmt: skip
_KINDS = ("checkpoint", "ensemble", "cross-validation", "table")
ABOUT = Fields(
    {
        "kind": OneOf(*_KINDS), "models": Many(_MODEL), "marks": Many(_TEXT), "settings": Mapped(Kind(null=True)),
        "time": _TEXT, "code": Mapped(_TEXT), "tracking": Fields(may={"run_id": _TEXT_OR_NULL, "uri": _TEXT_OR_NULL}),
        "data": Fields(
            {
                **_NAMED, "part": _TEXT, "n_knees": _N, "n_patients": _N, "grades": _GRADES, "n_unknown": _N,
                "sides": Mapped(_N),
            },
            {"split": _TEXT_OR_NULL, "n_trained_on": Whole(0, 2**53, null=True)},
        ),
    },
    {"command": _TEXT_OR_NULL},
    rule=lambda value: "" if value["models"] or value["kind"] == "table" else "models is empty",
)  # fmt: skip
AUDIT = Fields(
    {
        "data": _TEXT, "fingerprint": _TEXT, "n_knees": _N, "parts": Mapped(_GRADES), "severities": Mapped(_N),
        "kinds": Mapped(_N), "exit_code": OneOf(0, 1, 3),
    }
)  # fmt: skip
