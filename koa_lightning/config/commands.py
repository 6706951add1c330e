"""The table of commands: their names, their functions, and a one-line summary of each. No heavy imports here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command, `python -m koa_lightning.NAME`.

    Attributes:
        name: Of the module, and of the config where it takes one.
        group: The user's goal, under which the command is listed.
        summary: What it does, in one line.
        function: `module:function` of the package that receives the composed config; empty if the module has its own.
        before: `module:function` that may rewrite the overrides before they are composed; empty if there is none.
        computes: Whether a network computes, so that the memory allocator is tuned first.
    """

    name: str
    group: str
    summary: str
    function: str = ""
    before: str = ""
    computes: bool = False


COMMANDS = {
    command.name: command
    for command in (
        Command("demo", "train", "train, evaluate and explain on phantoms in a few minutes"),
        Command(
            "train",
            "train",
            "train one network, or with -m a sweep of them",
            "sweeps.callback:train",
            "config.run_folder:with_old_overrides",
            computes=True,
        ),
        Command(
            "cross_validate",
            "train",
            "train one network for each fold and evaluate the knees it did not see",
            "sweeps.cross_validate:cross_validate",
            "config.typed:with_folder",
            computes=True,
        ),
        Command(
            "reproduce",
            "train",
            "train a tracked run once more and compare every metric",
            "training.reproduce:reproduce",
            "config.typed:with_more",
        ),
        Command(
            "eval",
            "evaluate",
            "evaluate a checkpoint, an ensemble or a table",
            "evaluation.evaluate:evaluate",
            computes=True,
        ),
        Command("report", "evaluate", "write the report of an evaluation", "evaluation.report:report", computes=True),
        Command(
            "calibrate",
            "evaluate",
            "fit a checkpoint's calibration on validation",
            "evaluation.calibrate:calibrate",
            computes=True,
        ),
        Command(
            "explain_tests",
            "evaluate",
            "test whether heat maps show what the network uses",
            "evaluation.explain_tests:explain_tests",
            computes=True,
        ),
        Command("audit", "look at data", "find leakage, duplicates and faults in a data set", "reporting.audit:audit"),
        Command(
            "prepare",
            "look at data",
            "turn DICOM and other images into pseudonymous PNG",
            "data.prepare.prepare:prepare",
        ),
        Command(
            "show_augment",
            "look at data",
            "draw what an augmentation makes of some knees",
            "training.augmentation.sheet:show_augment",
        ),
        Command("split", "look at data", "write a split down for others to repeat", "data.write_split:split"),
        Command(
            "compare",
            "compare",
            "settings, metrics and curves of runs side by side",
            "reporting.compare_runs:compare",
            "config.typed:with_runs",
        ),
        Command(
            "compare_predictions",
            "compare",
            "test two models on the same knees",
            "reporting.compare_predictions:compare_predictions",
            "config.typed:with_tables",
        ),
        Command("sweep_report", "compare", "figures and best settings of a sweep", "sweeps.report:sweep_report"),
        Command(
            "prune_checkpoints",
            "compare",
            "delete the checkpoints that nobody needs",
            "tracking.prune_checkpoints:prune_checkpoints",
        ),
        Command("predict", "use a model", "grade radiographs", "evaluation.predict:predict", computes=True),
        Command(
            "serve",
            "use a model",
            "grade radiographs over HTTP, with a page for readers",
            "serving.service.serve:serve",
            computes=True,
        ),
        Command(
            "export",
            "use a model",
            "write a checkpoint as ONNX, OpenVINO or TorchScript",
            "serving.export.export:export",
            computes=True,
        ),
        Command("register", "use a model", "store a checkpoint in the model registry", "serving.register:register"),
        Command("server", "use a model", "MLflow for several users, on PostgreSQL", "tracking.server:serve"),
    )
}


def table() -> str:
    """Return all commands on one screen, grouped by the user's goal."""
    lines = []
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(f"\n{group}")
        lines += [f"  {c.name:<20} {c.summary}" for c in COMMANDS.values() if c.group == group]
    usage = "python -m koa_lightning.COMMAND [key=value ...]    COMMAND --help lists its keys"
    return "\n".join([usage, *lines])
