"""The tests mirror the package: the module koa_lightning/a/b.py has its tests in tests/a/test_b.py."""

from pathlib import Path

from koa_lightning.config.commands import COMMANDS

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "koa_lightning"

# Tests of several modules together, or of what lies outside of the package.
EXTRA = {
    "test_docker.py",  # Dockerfile, compose.yaml
    "test_benchmarks.py",  # benchmarks/
    "test_kill.py",  # training that is killed at any moment, and continues
    "test_layout.py",
    "test_makefile.py",
    "test_pictures.py",  # all figures of train, eval, report and predict, drawn for real
    "test_api.py",  # koa_lightning as it is imported
    "test_bad_input.py",  # every command
    "test_extending.py",  # docs/extending.md
    "test_notebooks.py",  # docs/notebooks/
    "test_pretrained.py",  # koa_lightning/pretrained/
    "test_signals.py",  # every command that can be ended
    "checkpoint/test_version_0_1.py",  # a checkpoint of the version before
    "data/test_sources.py",  # data/sources/ and what they share
    "metrics/test_definitions.py",  # every file of metrics/definitions/
    "tracking/test_ui_command.py",  # make ui
    "test_wheel.py",  # the package as it is installed
    "test_words.py",  # the words of code and prose
    "sweeps/test_parallel.py",  # several processes and machines that share a study
    "tracking/test_http_store.py",  # a whole run on a server that comes and goes
    "serving/service/test_page.py",  # what the page for readers does in a browser
    "tracking/test_ui.py",  # what MLflow's own pages show
}
EXTRA_FOLDERS = {"experiments", "docs"}  # experiments/ and docs/, which lie beside the package

# Three lines each that call `launch.run`, which tests/config/test_launch.py and tests/config/test_commands.py test.
COMMAND_FILES = {f"{name}.py" for name in COMMANDS if name != "demo"}

# Modules that are tested by the tests of others alone. Take a line away when its module has tests of its own.
WITHOUT_TESTS = {
    "checkpoint/record.py": "tests/checkpoint/test_reading.py",
    "checkpoint/reference.py": "tests/uncertainty/test_out_of_distribution.py",
    "checkpoint/writing.py": "tests/checkpoint/test_reading.py",
    "config/heat_maps.py": "tests/explain/test_methods.py",
    "config/kinds.py": "tests/config/test_schema.py",
    "config/metrics.py": "tests/metrics/test_definitions.py",
    "data/cache_editions.py": "tests/data/test_cache.py",
    "data/grade_folders.py": "tests/data/test_sources.py",
    "data/sources/chen2018.py": "tests/data/test_sources.py",
    "data/sources/folder.py": "tests/data/test_sources.py",
    "data/sources/phantom.py": "tests/data/test_sources.py",
    "data/sources/table.py": "tests/data/test_sources.py",
    "evaluation/api.py": "tests/test_api.py",
    "evaluation/data.py": "tests/evaluation/test_evaluate.py",
    "evaluation/explanations.py": "tests/explain/test_examine.py",
    "evaluation/grading.py": "tests/evaluation/test_predictor.py",
    "evaluation/referral.py": "tests/uncertainty/test_selective_prediction.py",
    "evaluation/uncertainty.py": "tests/evaluation/test_calibrate.py",
    "losses/build.py": "tests/training/test_build.py",
    "reporting/provenance.py": "tests/evaluation/test_report.py",
    "serving/mlflow_server.py": "tests/tracking/test_ui_command.py",
    "serving/service/answers.py": "tests/serving/service/test_app.py",
    "serving/service/grader.py": "tests/serving/service/test_app.py",
    "serving/service/job.py": "tests/serving/service/test_workers.py",
    "serving/service/keep.py": "tests/serving/service/test_app.py",
    "serving/service/monitoring.py": "tests/serving/service/test_app.py",
    "serving/service/problems.py": "tests/serving/service/test_guard.py",
    "serving/service/study_routes.py": "tests/serving/service/test_study.py",
    "serving/service/worker.py": "tests/serving/service/test_workers.py",
    "sweeps/engine.py": "tests/sweeps/test_sweep.py",
    "sweeps/grid.py": "tests/sweeps/test_sweep.py",
    "sweeps/launch.py": "tests/sweeps/test_sweep.py",
    "sweeps/trial.py": "tests/config/test_trial.py",
    "tracking/registry.py": "tests/serving/test_registry.py",
    "tracking/system.py": "tests/tracking/test_begin.py",
    "training/api.py": "tests/test_api.py",
    "training/augmentation/pixels.py": "tests/training/augmentation/test_container.py",
    "training/augmentation/tensors.py": "tests/training/augmentation/test_container.py",
    "training/rank.py": "tests/training/test_ranks.py",
    "training/cross_validation.py": "tests/sweeps/test_cross_validate.py",
    "uncertainty/recalibrated.py": "tests/uncertainty/test_calibration.py",
}


def modules():
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    return {name for name in found - COMMAND_FILES if not name.startswith("metrics/definitions/")}


def written():
    found = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    return {path.as_posix() for path in found if path.parts[0] not in EXTRA_FOLDERS}


def place(module):
    return (Path(module).parent / f"test_{Path(module).name}").as_posix()


def test_every_module_has_its_tests():
    files = written()
    without = {module for module in modules() if place(module) not in files}
    assert sorted(without - set(WITHOUT_TESTS)) == []


def test_every_file_of_tests_has_its_module():
    assert sorted(written() - {place(module) for module in modules()} - EXTRA) == []


def test_what_is_excused_is_there_and_still_needs_it():
    assert sorted(set(WITHOUT_TESTS) - modules()) == []
    files = written()
    assert sorted(module for module in WITHOUT_TESTS if place(module) in files) == []
    assert sorted(EXTRA - files) == []
