import pytest


@pytest.fixture
def sweep(log_run, place):
    (place / "best.ckpt").write_bytes(b"x" * 2_000_000)
    parent = log_run("sweep")
    for i in range(3):
        log_run(f"job {i}", metrics={"best/quadratic_kappa": i / 10}, checkpoint=place / "best.ckpt", parent=parent)
    log_run("fold 0", metrics={"best/quadratic_kappa": 0.0}, params={"data.folds": 5}, checkpoint=place / "best.ckpt")
    return log_run.client


def stored(client):
    runs = client.search_runs(["1"], order_by=["attributes.run_name ASC"])
    return [run.info.run_name for run in runs if client.list_artifacts(run.info.run_id, "checkpoints")]


def test_nothing_goes_without_yes(launch, sweep, place):
    ended = launch("prune_checkpoints", "sweep_run=sweep", "keep=2")
    assert (ended.code, ended.err) == (0, [])
    assert ended.out[-2:] == [
        "2.0 MB would be freed: the checkpoints of 1 of 3 runs",
        "nothing was deleted; to delete them, type the same command with yes=true",
    ]
    assert stored(sweep) == ["fold 0", "job 0", "job 1", "job 2"]
    ended = launch("prune_checkpoints", "sweep_run=sweep", "keep=2", "yes=true")
    assert ended.out[-1] == "2.0 MB freed: the checkpoints of 1 of 3 runs"
    assert stored(sweep) == ["fold 0", "job 1", "job 2"]
    again = launch("prune_checkpoints", "sweep_run=sweep", "keep=2", "yes=true")
    assert again.out[-1] == "0.0 MB freed: the checkpoints of 0 of 3 runs"
    assert not (place / "outputs").exists()


@pytest.mark.slow
def test_an_experiment_leaves_cross_validations_alone(launch, sweep):
    ended = launch("prune_checkpoints", "tracking.experiment=koa-lightning", "keep=1", "yes=true")
    assert ended.out[0] == "1 runs of cross-validations are left alone (name one by sweep_run=ID)"
    assert ended.out[-1] == "4.0 MB freed: the checkpoints of 2 of 4 runs"
    assert stored(sweep) == ["fold 0", "job 2"]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ([], "error: name either a sweep, sweep_run=ID|NAME, or an experiment, tracking.experiment=NAME"),
        (["sweep_run=sweep", "tracking.experiment=x"], "error: name either a sweep"),
        (["sweep_run=nobody"], "error: run=nobody: no run of this id or name"),
        (["sweep_run=job 1"], "error: sweep_run=job 1: no run belongs to it"),
        (["tracking.experiment=x"], "error: tracking.experiment=x: no such experiment"),
        (["sweep_run=sweep", "keep=0"], "error: keep=0: must be a whole number from 1"),
        (["sweep_run=sweep", "yes=maybe"], "error: yes=maybe: must be one of true, false"),
        (["sweep_run=sweep", "metric=kappa"], "error: metric=kappa: no run has it"),
    ],
)
def test_bad_input_is_one_line(arguments, start, launch, sweep):
    ended = launch("prune_checkpoints", *arguments)
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start)
    assert len(stored(sweep)) == 4
