import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image, ImageDraw, ImageFont

from koa_lightning.checkpoint import reading
from koa_lightning.config.compose import compose
from koa_lightning.config.overrides import quote
from koa_lightning.data.audit.findings import KINDS
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.reporting import audit as entry
from koa_lightning.reporting import audit_page
from koa_lightning.training.run import train

CLEAN = {"train": range(7), "val": range(7, 11), "test": range(11, 14)}  # patients


@pytest.fixture(scope="module")
def drawn():
    """Phantoms of 30 patients; row 2 i and 2 i + 1 are the knees of one."""
    rows = phantom_manifest(30, 5, (0.3, 0.2, 0.2, 0.15, 0.15))
    return rows, draw_phantoms(
        rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=5, size=224
    )


def put(root, split, grade, name, image, suffix="png"):
    folder = root / split / str(grade)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{name}.{suffix}")
    return folder / f"{name}.{suffix}"


@pytest.fixture(scope="module")
def clean(drawn, tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    rows, images = drawn
    for split, patients in CLEAN.items():
        for i in [row for patient in patients for row in (2 * patient, 2 * patient + 1)]:
            put(root, split, rows["grade"][i], f"{9_000_000 + i // 2}{'LR'[i % 2]}", images[i])
    return root


def text(image):
    picture = Image.fromarray(np.minimum(image, 200))
    ImageDraw.Draw(picture).text((60, 90), "TEST", fill=255, font=ImageFont.load_default(size=30))
    return np.asarray(picture)


@pytest.fixture(scope="module")
def planted(drawn, clean, tmp_path_factory):
    """The clean folder with a fault of each kind; returns it and the files of each."""
    root = tmp_path_factory.mktemp("planted")
    shutil.copytree(clean, root, dirs_exist_ok=True)
    new = iter(drawn[1][28:])
    first = put(root, "train", 0, "9100001L", next(new))
    crop = np.asarray(Image.fromarray(drawn[1][0]).crop((20, 15, 200, 195)).resize((224, 224)))
    original = sorted(root.glob("train/*/9000000L.png"))[0]
    files = {
        "unreadable": [put(root, "train", 0, "9100002L", next(new))],
        "truncated": [put(root, "val", 0, "9100003L", next(new))],
        "blank": [put(root, "train", 1, "9100004L", np.full((224, 224), 99, np.uint8))],
        "exposure": [put(root, "train", 1, "9100005L", np.clip(next(new) * 2.5, 0, 255).astype(np.uint8))],
        "inverted": [put(root, "test", 2, "9100006L", 255 - next(new))],
        "odd_size": [put(root, "train", 2, "9100007L", np.kron(next(new), np.ones((3, 3), np.uint8)))],
        "both_knees": [put(root, "train", 1, "9100013L", np.hstack([next(new), next(new)]))],
        "burnt_in": [put(root, "train", 3, "9100008L", text(next(new)))],
        "same_pixels": [first, put(root, "val", 2, "9100009R", np.asarray(Image.open(first)), "bmp")],
        "patient_in_two_parts": [put(root, split, 0, "9100010L", next(new)) for split in ("train", "val")],
        "knees_in_two_parts": [
            put(root, "train", 0, "9100011L", next(new)),
            put(root, "val", 0, "9100011R", next(new)),
        ],
        "near_duplicate": [put(root, "test", 0, "9100012L", crop), original],
    }
    files["two_grades"] = files["same_pixels"]
    files["unreadable"][0].write_bytes(b"")
    whole = files["truncated"][0].read_bytes()
    files["truncated"][0].write_bytes(whole[: len(whole) // 2])
    return SimpleNamespace(root=root, files=files)


def audited(root, out, *more):
    cfg = compose("audit", [f"data.root={quote(str(root))}", f"out={out}", "quiet=true", *more])
    result = entry.audit(cfg)
    return SimpleNamespace(result=result, out=out, facts=json.loads((out / "audit.json").read_text()))


@pytest.fixture(scope="module")
def dirty(planted, tmp_path_factory):
    """One audit with everything on; and the cache that it left its record in."""
    base = tmp_path_factory.mktemp("dirty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOA_CACHE", str(base / "cache"))
        done = audited(planted.root, base / "out")
    return SimpleNamespace(**vars(done), cache=base / "cache")


def found_files(facts, kind):
    return [sorted(finding["files"]) for finding in facts["findings"] if finding["kind"] == kind]


@pytest.fixture
def quick(alone, monkeypatch):
    """Leave out the page, whose figures take most of the time."""
    monkeypatch.setattr(audit_page, "write_page", lambda *arguments, **more: None)


# --- what is found


def test_a_clean_folder_is_clean(clean, quick, tmp_path, capsys):
    done = audited(clean, tmp_path / "out", "near=false")
    kinds = {finding["kind"] for finding in done.facts["findings"]}
    assert kinds <= {"burnt_in"}  # best effort
    assert done.result["exit_code"] == 0
    assert done.facts["parts"]["test"] != [0] * 5
    assert "clean (exit code 0); research use only, not a medical device" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("suspicious_grade", "no_patient")])
def test_each_planted_fault_is_found_once(planted, dirty, kind):
    got = found_files(dirty.facts, kind)
    right = sorted(str(path) for path in planted.files[kind])
    if kind == "burnt_in":
        assert right in got
    else:
        assert got == [right]


def test_the_severities_and_the_exit_code_say_leakage(dirty):
    severity = {finding["kind"]: finding["severity"] for finding in dirty.facts["findings"]}
    across = ("same_pixels", "near_duplicate", "patient_in_two_parts", "knees_in_two_parts")
    assert {kind for kind, word in severity.items() if word == "leakage"} == set(across)
    assert dirty.result["exit_code"] == dirty.facts["exit_code"] == 3
    assert dirty.result["n_findings"] == len(dirty.facts["findings"]) == sum(dirty.result["counts"].values())
    order = [finding["severity"] for finding in dirty.facts["findings"]]
    assert order == sorted(order, key=["leakage", "warning", "note"].index)


def test_the_table_has_a_row_a_finding(dirty):
    table = pd.read_csv(dirty.out / "findings.csv")
    assert list(table.columns) == ["kind", "severity", "files", "evidence", "numbers"]
    assert table["kind"].tolist() == [finding["kind"] for finding in dirty.facts["findings"]]
    assert table["files"].str.split(" | ", regex=False).tolist() == [f["files"] for f in dirty.facts["findings"]]
    assert all(json.loads(numbers) is not None for numbers in table["numbers"])


# --- what train makes of it


@pytest.mark.slow
def test_train_refuses_what_the_audit_found_under_foreign_names(drawn, clean, tiny, place, quick, monkeypatch):
    """A pooled folder: knees again, cropped, under other names; only the audit can tell."""
    root = place / "pooled"
    for i, file in enumerate(sorted(clean.rglob("*.png"))):
        image = Image.open(file)
        put(root, "", file.parent.name, f"A{i:03d}L", np.asarray(image))
        put(root, "", file.parent.name, f"B{i:03d}L", np.asarray(image.crop((18, 14, 206, 202)).resize((224, 224))))
    monkeypatch.setenv("KOA_CACHE", str(place / "cache"))
    data = ["data=folder", f"data.root={root}", "data.val_fraction=0.4", "data.test_fraction=0.1"]
    done = audited(root, place / "out", *data)
    assert done.result["exit_code"] == 3
    assert done.facts["kinds"]["near_duplicate"] >= 20
    small = [item for item in tiny.overrides if not item.startswith("data.source")]
    small += ["out=run", "trainer.max_epochs=1", "explain=none", "tracking.system_metrics=false"]
    with pytest.raises(InputError, match=r"near duplicates in an earlier audit, similarity .*data.allow_leakage"):
        train(compose("train", [*small, *data, "tracking=none"]))
    result = train(compose("train", [*small, *data, "data.allow_leakage=true"]))
    assert "leaky" in reading.read(result["checkpoint"]).caveats
    run = MlflowClient(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}").get_run(result["run_id"])
    assert run.data.tags["leaky"] == "true"
    assert "leaky" in run.data.tags["marks"]


# --- settings and the command line


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        (["checks=[blank,same_pixels]"], {"blank", "same_pixels"}),
        (["near=false", "polarity=false"], set(KINDS) - {"near_duplicate", "inverted", "suspicious_grade"}),
    ],
)
def test_kinds_can_be_switched_off(planted, quick, tmp_path, more, kinds):
    done = audited(planted.root, tmp_path / "out", *more)
    assert set(done.facts["kinds"]) == kinds
    assert set(done.facts["not_looked_for"]) == set(KINDS) - kinds
    assert {finding["kind"] for finding in done.facts["findings"]} <= kinds
    assert done.facts["kinds"]["blank"] == 1


@pytest.mark.slow
def test_out_of_fold_probabilities_are_listed_as_notes(clean, quick, tmp_path):
    rows = pd.DataFrame({"path": sorted(str(path) for path in clean.rglob("*.png"))})
    grade = rows["path"].str.split("/").str[-2].astype(int)
    shares = 0.9 * np.eye(5)[grade] + 0.02
    shares[3] = 0.9 * np.eye(5)[(grade[3] + 3) % 5] + 0.02
    table = pd.DataFrame(shares, columns=[f"p{k}" for k in range(5)]).assign(path=rows["path"])
    table.to_csv(tmp_path / "oof.csv", index=False)
    done = audited(clean, tmp_path / "out", "checks=[suspicious_grade]", f"oof={tmp_path / 'oof.csv'}")
    assert found_files(done.facts, "suspicious_grade") == [[rows["path"][3]]]
    assert done.result["exit_code"] == 0


def test_suspicious_grades_need_probabilities(clean, quick, tmp_path):
    with pytest.raises(InputError, match="suspicious_grade needs out-of-fold probabilities; add oof=FILE"):
        audited(clean, tmp_path / "out", "checks=[suspicious_grade]")


@pytest.mark.slow
def test_parts_that_cannot_be_made_do_not_stop_it(clean, quick, tmp_path, capsys):
    table = pd.DataFrame({"path": sorted(str(path) for path in clean.rglob("*.png"))[:4], "grade": 0})
    table["patient"] = "one"
    table.to_csv(tmp_path / "knees.csv", index=False)
    cfg = ["data=table", f"data.table={tmp_path / 'knees.csv'}", "near=false", "polarity=false"]
    result = entry.audit(compose("audit", [*cfg, f"out={tmp_path / 'out'}", "quiet=true"]))
    assert result["counts"].keys() <= {"burnt_in"}
    facts = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert facts["parts"] == {"no split": [4, 0, 0, 0, 0]}
    assert "the audit continues with the splits as they are" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_went_away_is_a_finding(clean, quick, tmp_path, monkeypatch):
    from koa_lightning.data.sources.chen2018 import chen2018 as rows_of_chen2018

    rows = rows_of_chen2018(str(clean))
    ended = str(clean / "val" / "0" / "gone.png")
    rows.loc[3, "path"] = ended
    monkeypatch.setattr("koa_lightning.data.sources.chen2018.chen2018", lambda root: rows)
    done = audited(clean, tmp_path / "out", "near=false")
    assert found_files(done.facts, "unreadable") == [[ended]]


@pytest.mark.slow
def test_a_record_that_cannot_be_written_is_said(clean, quick, tmp_path, monkeypatch, capsys):
    from koa_lightning.data.audit import leakage

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(leakage, "remember", refuse)
    audited(clean, tmp_path / "out", "near=false")
    assert "cannot be written, so train will not know of near duplicates" in capsys.readouterr().err


def test_the_command_line(planted, quick, tmp_path, launch):
    done = launch("audit", f"data.root={planted.root}", "near=false", f"out={tmp_path / 'out'}", "quiet=true")
    assert done.code == 3
    words = "\n".join(done.out)
    assert "Same pixels" in words and "leakage (exit code 3)" in words
    assert "not checked: near_duplicate, suspicious_grade" in words
    assert done.out[-1] == f"written to {tmp_path / 'out'}: audit.html, audit.json, findings.csv"
    assert done.err == []


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("checks=[blnk]", "did you mean 'blank'"),
        ("near=maybe", "near=maybe: must be one of true, false"),
        ("n_shown=-1", "n_shown=-1: must be a whole number"),
        ("oof=/no/where.csv", "there is no such file"),
        ("data.root=/no/where", "there is no such folder"),
        ("nera=false", "did you mean 'near'"),
    ],
)
def test_bad_settings_end_with_one_line(clean, quick, tmp_path, launch, typed, message):
    done = launch("audit", f"data.root={clean}", f"out={tmp_path / 'out'}", "quiet=true", typed)
    assert done.code == 2
    assert len(done.err) == 1 and message in done.err[0]
    assert not (tmp_path / "out").exists()


def test_an_interrupt_ends_with_130_and_leaves_nothing(clean, quick, tmp_path, launch, monkeypatch):
    from koa_lightning.data.audit import files

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_measure_one", interrupt)
    done = launch("audit", f"data.root={clean}", f"out={tmp_path / 'out'}", "quiet=true")
    assert (done.code, done.err) == (130, ["error: interrupted"])
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_imported_for_help(with_package):
    code = "import sys, koa_lightning.audit; print([m for m in ('torch', 'pandas', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=with_package, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the page


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside, self.anchors, self.ids, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        for key in ("src", "href"):
            target = values.get(key, "")
            if target and not target.startswith(("data:image/", "#")):
                self.outside.append(target)
        if values.get("href", "").startswith("#"):
            self.anchors.append(values["href"][1:])
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(dirty):
    page = (dirty.out / "audit.html").read_text()
    links = Links()
    links.feed(page)
    assert links.outside == [] and links.open == []
    assert not re.search(r"url\(|@import|<script", page)
    assert set(links.anchors) <= set(links.ids)
    assert {finding["kind"] for finding in dirty.facts["findings"]} <= set(links.anchors)
    assert "Research use only, not a medical device." in page
    assert "Leakage: two splits share patients or knees" in page
    for kind in KINDS.values():
        assert html.escape(kind.explanation) in page


def test_the_page_says_how_many_it_leaves_out_and_escapes_names(drawn, alone, tmp_path):
    root = tmp_path / "&lt root"
    for i in range(6):
        put(root, "train", i % 5, f"900000{i}L", np.full((64, 64), 7 * i, np.uint8))
    audited(root, tmp_path / "out", "near=false", "polarity=false", "n_shown=2", "checks=[blank]")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "The first 2 of 6 are shown; findings.csv has them all." in page
    assert "/&lt root" not in page and "/&amp;lt root" in page
    assert page.count("<img") == 2 + 3  # and three figures


@pytest.mark.slow
def test_a_table_with_absolute_paths_beside_relative_ones_has_its_page(drawn, alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "train", 0, "9000001L", np.full((64, 64), 9, np.uint8))
    far = put(tmp_path, "other", 1, "9000002L", np.full((64, 64), 99, np.uint8))
    pd.DataFrame({"path": ["train/0/9000001L.png", str(far)], "grade": [0, 1]}).to_csv("knees.csv", index=False)
    cfg = ["data=table", "data.table=knees.csv", "near=false", "polarity=false", "checks=[blank]", "out=out"]
    entry.audit(compose("audit", [*cfg, "quiet=true"]))
    page = (tmp_path / "out" / "audit.html").read_text()
    assert '"><img' in page and "<br>train/0/9000001L.png</span>" in page and "<br>other/1/9000002L.png</span>" in page


@pytest.mark.slow
def test_phantoms_are_marked(alone, tmp_path, capsys):
    cfg = ["data=phantom", "data.source.n_patients=12", "near=false", "polarity=false", f"out={tmp_path / 'out'}"]
    result = entry.audit(compose("audit", [*cfg, "quiet=true"]))
    assert result["n_knees"] == 24
    assert '<p class="caveat">phantom data</p>' in (tmp_path / "out" / "audit.html").read_text()
    assert "phantom data" in capsys.readouterr().out
