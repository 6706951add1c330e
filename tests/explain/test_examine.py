import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.evaluation import explanations
from koa_lightning.explain import examine as module
from koa_lightning.explain.examine import Options, choose, examine
from koa_lightning.models.net import NetSpec, build
from koa_lightning.tracking.none import NoRun

OPTIONS = Options("cam", n_tested=12, n_road=2, batch_size=8, quiet=True)


@pytest.fixture(scope="module")
def split():
    """A network, 40 phantoms of 20 patients, and their table; the grade of one is unknown."""
    rows = phantom_manifest(20, 7, (0.2,) * 5)
    rows.loc[3, "grade"] = -1
    images = decode_phantoms(rows["path"].tolist(), 64)
    torch.manual_seed(0)
    dataset = KneeDataset(images, np.arange(40), rows["grade"].to_numpy())
    return build(NetSpec("test_efficientnet")).eval(), dataset, rows, Preprocessing(64)


@pytest.fixture(scope="module")
def examined(split):
    return examine(*split, OPTIONS)


def test_what_comes_of_it(examined):
    results, table = examined
    assert {"method", "target", "n", "n_patients", "faithfulness", "sanity", "noise", "localisation", "shortcut",
            "verdicts", "seconds"} == set(results)  # fmt: skip
    names = ["deletion", "insertion", "road", "sanity", "noise", "localisation", "shortcut"]
    assert list(results["verdicts"]) == names
    assert set(results["verdicts"].values()) <= {"passed", "failed", "not judged"}
    assert results["verdicts"]["road"] == "not judged"  # two knees
    assert (results["n"], results["shortcut"]["n"]) == (12, 39)
    assert results["localisation"]["region"] == "signs of the phantom"
    assert results["seconds"]["total"] >= 0
    json.dumps(results, allow_nan=False)
    assert len(table) == 12
    assert table["grade"].between(0, 4).all()
    assert {"path", "patient", "side", "predicted", "deletion_map", "insertion_centre", "road_random", "share_map"} <= {
        *table.columns
    }


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["test_vit", "test_mambaout"])
def test_networks_of_other_layouts_are_tested_too(split, name):
    torch.manual_seed(0)
    net = build(NetSpec(name, image_size=64)).eval()
    options = Options("gradcam", n_tested=4, n_road=1, batch_size=8, quiet=True)
    results, table = examine(net, *split[1:], options)
    assert results["n"] == len(table) == 4 and results["shortcut"]["n"] == 39
    assert results["sanity"]["layers"][0]["layer"].startswith("head")
    assert [row["layer"] for row in results["sanity"]["layers"]].count("own") == (name == "test_vit")
    assert results["localisation"]["share"]["map"] is not None
    json.dumps(results, allow_nan=False)


@pytest.mark.slow
def test_the_same_again(split, examined):
    again, table = examine(*split, OPTIONS)
    assert {**again, "seconds": 0} == {**examined[0], "seconds": 0}
    assert table.equals(examined[1])


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_numbers(split, examined, tmp_path, monkeypatch, capsys):
    file = tmp_path / "explanations.part.json"
    real = module.sanity.noise
    monkeypatch.setattr(module.sanity, "noise", lambda *args, **rest: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        examine(*split, OPTIONS, file)
    assert file.is_file()
    monkeypatch.setattr(module.sanity, "noise", real)
    monkeypatch.setattr(module.faithfulness, "faithfulness", None)  # is not asked again
    again, table = examine(*split, replace(OPTIONS, quiet=False), file)
    assert f"resuming {file}: faithfulness, sanity done" in capsys.readouterr().out
    assert {**again, "seconds": 0} == {**examined[0], "seconds": 0}
    pd.testing.assert_frame_equal(table, examined[1])
    assert not file.exists()


def test_the_network_is_left_as_it_was(split, examined):
    net = split[0]
    torch.manual_seed(0)
    torch.testing.assert_close(net.state_dict(), build(NetSpec("test_efficientnet")).state_dict())
    assert not any(each.training for each in net.modules())
    assert all(each.grad is None and each.requires_grad for each in net.parameters())


@pytest.mark.slow
def test_images_through_the_network_are_counted_right(split, monkeypatch):
    seen = []
    real = module.Progress

    class Counting(real):
        def advance(self, task, n):
            seen.append(n)

        def add_task(self, *args, total, **rest):
            seen.append(-total)
            return super().add_task(*args, total=total, **rest)

    monkeypatch.setattr(module, "Progress", Counting)
    examine(*split, OPTIONS)
    assert sum(seen) == 0


def test_the_cost_is_said_first(split, capsys):
    examine(*split, Options("cam", n_tested=3, n_road=1, batch_size=8))
    assert capsys.readouterr().out.startswith(
        "testing cam on 3 knees, 1 of them by ROAD, and grading 39 with parts hidden: "
    )


@pytest.mark.slow
def test_the_expected_grade_is_tested_in_grades(split):
    results, _ = examine(*split, Options("cam", "expected", n_tested=10, n_road=1, batch_size=8, quiet=True))
    assert 0 < results["faithfulness"]["deletion"]["map"] < 4
    assert results["target"] == "expected"


def test_knees_of_unknown_grade_alone_cannot_be_tested(split):
    net, dataset, rows, preprocessing = split
    unknown = KneeDataset(dataset.images, dataset.rows, np.full(40, -1))
    with pytest.raises(InputError, match="only on labelled knees"):
        examine(net, unknown, rows, preprocessing, OPTIONS)


def test_choice_is_by_grade_in_turn():
    grades = np.array([0] * 50 + [1] * 20 + [4] * 2)
    chosen = choose(grades, 12, 0)
    assert np.bincount(grades[chosen]).tolist() == [5, 5, 0, 0, 2]
    assert sorted(grades[chosen[:3]].tolist()) == [0, 1, 4]
    assert len(set(chosen.tolist())) == 12
    assert choose(grades, 12, 0).tolist() == chosen.tolist() != choose(grades, 12, 1).tolist()
    assert sorted(choose(grades, 1000, 0).tolist()) == list(range(72))


def test_real_knees_have_a_joint_band(split):
    net, dataset, rows, preprocessing = split
    named = rows.assign(path=[f"a/{n}.png" for n in range(40)])
    results, _ = examine(net, dataset, named, preprocessing, Options("cam", n_tested=4, n_road=1, quiet=True))
    assert results["localisation"]["region"] == "joint band"
    assert results["localisation"]["n"] == 4


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("seen", "shape", "expected"),
    [
        (Preprocessing(64, "stretch", top=0.25, bottom=0.85), (64, 64), (18, 48)),
        (Preprocessing(64), (100, 200), (29, 38)),
    ],
)
def test_the_joint_is_looked_for_and_hidden_where_the_network_sees_it(split, monkeypatch, seen, shape, expected):
    given = {}

    def shortcut(logits, images, grades, patients, regions, link):
        given["hidden"] = regions
        return {"verdict": "not judged"}

    def localised(maps, masks, *rest):
        given["looked for"] = masks
        return {"verdict": "not judged"}, {}

    monkeypatch.setattr(module.shortcut, "shortcut", shortcut)
    monkeypatch.setattr(module.localisation, "localisation", localised)
    net, dataset, rows, _ = split
    dataset = KneeDataset(dataset.images, dataset.rows, dataset.grades, np.array([shape] * 40))
    named = rows.assign(path=[f"a/{n}.png" for n in range(40)])
    examine(net, dataset, named, seen, Options("cam", n_tested=4, n_road=1, quiet=True))
    assert (len(given["hidden"]), len(given["looked for"])) == (39, 4)
    for band in (*given["hidden"], *given["looked for"]):
        inside = np.flatnonzero(band.all(1))
        assert (inside[0], inside[-1] + 1) == pytest.approx(expected, abs=1)


class Recorder(NoRun):
    def __init__(self):
        super().__init__()
        self.files, self.tags = [], {}

    def log_artifact(self, local, folder=None):
        self.files.append((local.name, folder))

    def log_tags(self, tags):
        self.tags |= tags


def test_files_metrics_and_words(split, examined, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(explanations, "examine", lambda *args: examined)
    net, dataset, rows, preprocessing = split
    data = SimpleNamespace(
        eval_batch_size=8, datasets={"val": dataset}, tables={"val": rows}, preprocessing=preprocessing, name="phantom"
    )
    explain = SimpleNamespace(method="cam", target="grade", n_tested=12, n_road=2)
    run = Recorder()
    how = {"caveats": ["phantom data"], "read": SimpleNamespace(path="best.ckpt", epoch=3), "quiet": False}
    results = explanations.record_tests(net, data, "val", explain, tmp_path / "out", run, **how)
    written = json.loads((tmp_path / "out/explanations.json").read_text())
    assert written == results
    assert (written["checkpoint"], written["part"], written["marks"]) == ("best.ckpt", "val", ["phantom data"])
    assert "not a medical device" in written["note"]
    assert len((tmp_path / "out/explanations.csv").read_text().splitlines()) == 13
    assert run.files == [(f"explanations.{kind}", "explanations") for kind in ("json", "csv", "png")]
    assert run.tags["explain.shortcut"] == results["verdicts"]["shortcut"]
    history = run.history()
    assert history["explain_val/similarity_random_network"] == [(3, results["sanity"]["layers"][-1]["similarity"])]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CAM of the predicted grade, 12 knees, ")
    assert [line.split()[0] for line in lines[1:]] == list(results["verdicts"])
