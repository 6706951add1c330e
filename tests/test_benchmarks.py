"""The benchmarks can be imported, and their table says what missed its goal; nothing is measured here."""

import json
from importlib import import_module
from pathlib import Path

import pytest

ROWS = [
    {"name": "fast enough", "ratio": 2.6, "goal": 2.5, "detail": "a"},
    {"name": "too slow", "ratio": 0.94, "goal": 0.95, "detail": "b"},
    {"name": "small enough", "ratio": 1.05, "goal": 1.1, "detail": "c", "lower": True},
    {"name": "too large", "ratio": 1.2, "goal": 1.1, "detail": "d", "lower": True},
    {"name": "to be read", "ratio": 0.1, "goal": None, "detail": "f"},
    {"name": "unknown", "ratio": float("nan"), "goal": 1.0, "detail": "e"},
]
MISSED = ["too slow", "too large", "unknown"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


NAMES = [
    "loader", "augment", "cache_build", "fit", "precision", "memory", "intervals", "cam", "load", "serve", "export",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_the_one_interface(name):
    assert name in import_module("benchmarks.run").NAMES
    assert callable(import_module(f"benchmarks.{name}").measure)


FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_a_benchmark_whose_page_names_its_command_runs_by_it(file):
    text = file.read_text()
    assert ('__name__ == "__main__"' in text) or f"python -m benchmarks.{file.stem}" not in text.split('"""')[1]


def test_the_page_names_all():
    page = (FOLDER / "README.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in page] == []


def test_the_table_tells_for_each_row_whether_the_goal_is_met():
    lines = import_module("benchmarks.run").table(ROWS).splitlines()
    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert line.startswith(row["name"]) and line.endswith(row["detail"])
        assert (" NO " in line) == (row["name"] in MISSED)
        assert ("<=" in line) == row.get("lower", False)


ROUNDED = [
    (2.4971, 2.5, False, "2.497"),
    (2.503, 2.5, False, "2.5"),
    (0.79996, 0.8, False, "0.79996"),
    (1.1002, 1.1, True, "1.1002"),
    (4.0, None, False, "4"),
    (float("nan"), 2.5, False, "nan"),
]


@pytest.mark.parametrize("ratio, goal, lower, shown", ROUNDED)
def test_rounding_hides_no_missed_goal(ratio, goal, lower, shown):
    row = {"name": "a", "ratio": ratio, "goal": goal, "lower": lower, "detail": ""}
    assert import_module("benchmarks.run").table([row]).splitlines()[1].split()[1] == shown


def test_a_missed_goal_is_named_and_ends_with_1(capsys):
    run = import_module("benchmarks.run")
    assert run.verdict(ROWS, []) == 1
    assert "goal missed: too slow; too large; unknown" in capsys.readouterr().err
    assert run.verdict(ROWS[:1], []) == 0
    assert run.verdict([], ["fit"]) == 1
    assert "failed: fit" in capsys.readouterr().err


def test_run_measures_each_name_in_a_process_and_keeps_the_rows(monkeypatch, tmp_path, capsys):
    run = import_module("benchmarks.run")
    asked = []

    def computed(function):
        asked.append(function)
        return ROWS[:1]

    monkeypatch.setattr(run, "in_own_process", computed)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results" / "latest.json")
    assert run.main(["fit", "memory"]) == 0
    assert asked == ["benchmarks.fit:measure", "benchmarks.memory:measure"]
    assert '"fast enough"' in run.RESULTS.read_text()
    assert capsys.readouterr().out.count("fast enough") == 2
    assert run.main(["fits"]) == 2
    assert "no benchmark 'fits'" in capsys.readouterr().err


def test_a_function_runs_in_a_process_of_its_own():
    in_own_process = import_module("benchmarks.process").in_own_process
    assert in_own_process("operator:add", 2, 3) == 5
    assert in_own_process("os:getpid") != in_own_process("os:getpid")


def take_turns(file, name, steps):
    watch = import_module("benchmarks.process").Stopwatch(2)
    for _ in range(steps):
        with open(file, "a") as log:  # noqa: PTH123
            log.write(name)
        watch.step_done()
    return watch.turns


def test_processes_take_turns_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    call = (f"{Path(__file__).stem}:take_turns", str(tmp_path / "log"))
    turns = import_module("benchmarks.process").in_turns((*call, "a", 6), (*call, "b", 4))
    assert (tmp_path / "log").read_text() == "aabbaabbaa"
    assert [len(side) for side in turns] == [2, 1]


def test_a_process_that_fails_raises(tmp_path):
    process = import_module("benchmarks.process")
    with pytest.raises(process.subprocess.CalledProcessError):
        process.in_own_process("operator:truediv", 1, 0)


def test_loss_curves_are_compared_smoothed():
    differ = import_module("benchmarks.precision").largest_difference
    assert differ([1.0] * 10, [1.0] * 10) == 0
    assert differ([2.0] * 10, [2.2] * 10) == pytest.approx(0.1)
    assert differ([1.0] * 10, [1.0, 1.5] + [1.0] * 8) == pytest.approx(0.1)


@pytest.mark.slow
def test_intervals_hold_the_truth_by_patient_and_too_seldom_by_knee():
    """A small version of `benchmarks.coverage`: of 200 studies 190 are expected, sd 3."""
    coverage = import_module("benchmarks.coverage")
    metrics = ("accuracy", "mae", "rps")
    true = coverage.reference(60_000, metrics)
    pairs = [coverage.repeat(seed, 150, 300, metrics) for seed in range(200)]
    by_patient, by_knee = (coverage.coverage(list(side), true) for side in zip(*pairs, strict=True))
    for name in metrics:
        assert 0.92 <= by_patient[name] <= 0.98, name
        assert by_knee[name] < 0.92, name


def test_the_table_of_the_gpu_says_what_was_missed_and_what_did_not_run():
    gpu = import_module("benchmarks.gpu")
    rows = [
        {"name": "a", "value": 0.02, "goal": "<= 0.01", "detail": ""},
        {"name": "b", "value": 0.0, "goal": "== 0", "detail": ""},
        {"name": "c", "value": None, "goal": "> 1", "detail": ""},
        {"name": "d", "value": 0.7, "goal": "", "detail": ""},
    ]
    words = [line.split(" | ")[3] for line in gpu.table(rows).splitlines()[2:]]
    assert words == ["NO", "yes", "not run", "no goal"]


@pytest.mark.slow
def test_the_checks_of_a_gpu_run_on_a_cpu_with_tiny_sizes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KOA_CACHE", str(tmp_path))
    out = tmp_path / "gpu.json"
    assert import_module("benchmarks.gpu").main(["--out", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["Grad-CAM"]["met"] is True and rows["loss of an epoch, relative to the CPU's"]["value"] == 0
    assert rows["no host sync in a step"]["met"] is None
    assert "no GPU, so tiny sizes on the CPU" in capsys.readouterr().out


def test_growth_is_one_where_it_is_linear_and_two_where_it_is_square():
    scale = import_module("benchmarks.scale")
    assert scale.growth([10, 100, 1000], [1.0, 10.0, 1000.0]) == [None, 1.0, 2.0]
    assert scale.growth([10, 100], [0.0, 1.0]) == [None, None]
    found = scale.table({"splits": {10: {"seconds": 1.0, "mb": 2.0}, 100: {"seconds": 10.0, "mb": 2.0}}})
    assert found.splitlines()[-1] == "| splits | 100 | 10.00 | 1.00 | 2 | 0.00 |"


def test_the_parts_that_grow_run_at_a_small_size():
    scale = import_module("benchmarks.scale")
    assert all(getattr(scale, part)(40) > 0 for part in ("manifest", "splits", "index"))
