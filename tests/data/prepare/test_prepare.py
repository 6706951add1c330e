import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import RLELossless

from koa_lightning.config import outcome
from koa_lightning.config.compose import compose
from koa_lightning.data.find_images import find_images
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare import names, prepare
from koa_lightning.data.sources.table import table as rows_of_table
from koa_lightning.errors import InputError

FILES = {"knees.csv", "record.jsonl", "failed.json", ".lock"}


def knee(number=0, size=64):
    image = draw_phantoms([f"p{number}"], ["R"], [number % 5], seed=1, size=size)[0]
    return image.astype(np.uint16) * 16


@pytest.fixture
def films(write_dicom, tmp_path):
    """Both knees of three patients, with and without compression; one knee twice."""
    for number in range(6):
        patient, side = f"P{number // 2}", "RL"[number % 2]
        write_dicom(
            tmp_path / f"in/{patient}/{side}.dcm", knee(number), 12, RLELossless if number % 2 else None,
            PatientID=patient, ImageLaterality=side, ImagerPixelSpacing=[0.15, 0.15],
        )  # fmt: skip
    write_dicom(tmp_path / "in/P2/again", knee(9), 12, PatientID="P2", Laterality="L", PixelSpacing=[0.2, 0.3])
    return tmp_path / "in"


@pytest.fixture
def run(tmp_path):
    def run(where, *overrides, out="out"):
        folder = tmp_path / out
        arguments = [f"input='{where}'", f"output='{folder}'", "quiet=true", *overrides]
        return prepare.prepare(compose("prepare", arguments)), folder

    return run


def knees_of(folder):
    return pd.read_csv(folder / "knees.csv", dtype={"patient": "str"}, keep_default_na=False)


def record_of(folder):
    return [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]


def test_pictures_and_table(films, run, capsys):
    result, out = run(films)
    assert (result["exit_code"], result["n_made"], result["n_failed"]) == (outcome.DONE, 7, 0)
    rows = knees_of(out)
    assert rows.columns.tolist() == [
        "path", "patient", "side", "spacing_mm", "spacing_across_mm", "spacing_from", "side_from",
    ]  # fmt: skip
    assert {path.name for path in out.iterdir()} == FILES | {"images"}
    assert rows["path"].tolist() == sorted(f"images/{path.name}" for path in (out / "images").iterdir())
    assert sorted(rows.groupby("patient").size()) == [2, 2, 3]
    assert rows["path"].str.fullmatch(r"images/[0-9a-f]{16}-[LR]-[12]\.png").all()
    assert (rows["path"].str[7:25] == rows["patient"] + "-" + rows["side"]).all()
    twice = rows[rows["path"].str.endswith("-2.png") | (rows["spacing_from"] == "PixelSpacing")]
    assert set(twice["side"]) == {"L"}
    assert sorted(rows["spacing_from"].unique()) == ["ImagerPixelSpacing", "PixelSpacing"]
    assert sorted(rows["spacing_across_mm"].unique()) == [0.15, 0.3]
    found = {cv2.imread(str(out / path), cv2.IMREAD_UNCHANGED).tobytes() for path in rows["path"]}
    for number in (*range(6), 9):
        stretched = np.rint((knee(number) - knee(number).min()) * (65535 / np.ptp(knee(number))))
        assert stretched.astype(np.uint16).tobytes() in found
    assert len(record_of(out)) == 7
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {out}"


def test_two_runs_agree_and_the_second_makes_nothing(films, run, capsys, monkeypatch):
    run(films)
    said = capsys.readouterr().err
    assert "WARNING: no key was given, so a random one was created" in said
    _, other = run(films, out="other")
    assert "random" not in capsys.readouterr().err
    out = other.parent / "out"
    for path in [*out.glob("images/*"), out / "knees.csv", out / "record.jsonl"]:
        assert (other / path.relative_to(out)).read_bytes() == path.read_bytes()
    monkeypatch.setattr("koa_lightning.data.prepare.run.write_png", None)
    times = {path: path.stat().st_mtime_ns for path in out.glob("images/*")}
    result, _ = run(films)
    assert (result["n_made"], result["n_there"]) == (0, 7)
    assert {path: path.stat().st_mtime_ns for path in out.glob("images/*")} == times


def test_only_what_is_missing_or_changed_is_made(films, run, write_dicom, capsys):
    _, out = run(films)
    first = sorted(out.glob("images/*"))
    first[2].unlink()
    write_dicom(films / "new.dcm", knee(11), 12, PatientID="P7")
    result, _ = run(films)
    assert (result["n_made"], result["n_there"], result["n_knees"]) == (2, 6, 8)
    assert set(first) < set(out.glob("images/*"))
    (films / "P0/L.dcm").unlink()
    capsys.readouterr()
    result, _ = run(films)
    assert (result["n_made"], result["n_knees"]) == (0, 8)
    assert "1 pictures in the output come from files outside this input" in capsys.readouterr().err


def test_other_settings_are_made_anew_under_the_same_names(films, run):
    _, out = run(films)
    before = knees_of(out)
    result, _ = run(films, "spacing=0.3")
    assert result["n_made"] == 7
    rows = knees_of(out)
    assert rows["path"].tolist() == before["path"].tolist()
    assert set(rows["spacing_mm"]) == set(rows["spacing_across_mm"]) == {0.3}
    shapes = sorted(Image.open(out / path).size for path in rows["path"])
    assert shapes == [(32, 32)] * 6 + [(64, 43)]


def test_a_film_whose_spacing_cannot_be_read_is_made_and_said(write_dicom, tmp_path, run, capsys):
    file = write_dicom(tmp_path / "in/a.dcm", knee(), 12, PatientID="P1", PixelSpacing=[0.1, 0.12345])
    file.write_bytes(file.read_bytes().replace(rb"0.1\0.12345 ", rb"0,143\0,143 "))
    result, out = run(tmp_path / "in")
    assert (result["exit_code"], result["n_made"]) == (outcome.DONE, 1)
    assert knees_of(out)["spacing_mm"].tolist() == [""]
    said = capsys.readouterr().err
    assert f"1 elements cannot be read and count as empty, e.g. PixelSpacing '0,143\\0,143' of {file}" in said
    with pytest.raises(InputError, match="no image is usable"):
        run(tmp_path / "in", "spacing=0.2", out="other")
    assert "no pixel spacing, so it has no size in mm" in capsys.readouterr().err


def test_the_same_content_is_taken_once(films, run, capsys):
    (films / "copy.dcm").write_bytes((films / "P0/L.dcm").read_bytes())
    result, out = run(films)
    assert result["n_made"] == 7
    assert "1 files have the same content as another" in capsys.readouterr().err
    assert not list(out.rglob("*.part"))


def test_what_cannot_be_taken_is_listed_and_the_rest_continues(films, run, write_dicom, capsys):
    bad = films / "bad, a lateral view"  # a reason is not read from the name
    frames = write_dicom(bad / "a.dcm", knee(), PatientID="P")
    ds = pydicom.dcmread(frames)
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData * 2
    ds.save_as(frames)
    write_dicom(bad / "b.dcm", knee(), PixelData=None)
    write_dicom(bad / "c.dcm", knee(), PhotometricInterpretation="HSV")
    for number, view in enumerate(("LL", "RL", "LAT", "LATERAL", "Knee lateral")):
        write_dicom(bad / f"d{number}.dcm", knee(20 + number), ViewPosition=view)
    cut = write_dicom(bad / "e.dcm", knee())
    cut.write_bytes(cut.read_bytes()[:-999])
    write_dicom(bad / "f.dcm", knee(), BurnedInAnnotation="YES")
    (bad / "g.dcm").write_bytes(b"no DICOM at all")
    (bad / "h.png").write_bytes(b"")
    write_dicom(bad / "i.dcm", knee(), WindowCenter=5, WindowWidth=0)
    result, out = run(films)
    assert (result["exit_code"], result["n_made"], result["n_failed"]) == (outcome.PARTLY, 7, 13)
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith(f"error: {bad}/") for line in lines) == 13
    failed = json.loads((out / "failed.json").read_text())
    paths = find_images(str(films))
    assert [(paths[item["number"] - 1].name, item["reason"]) for item in failed] == [
        ("a.dcm", "several frames"),
        ("b.dcm", "pixel data or an element that describes it is missing"),
        ("c.dcm", "photometric interpretation not read"),
        *((f"d{number}.dcm", "a lateral view") for number in range(5)),
        ("e.dcm", "truncated or damaged"),
        ("f.dcm", "burnt-in text"),
        ("g.dcm", "not an image"),
        ("h.png", "empty file"),
        ("i.dcm", "window or table that cannot be applied"),
    ]
    assert run(films, "burnt_in=true")[0]["n_made"] == 1
    assert run(films, "spacing=0.3", out="other")[0]["n_failed"] == 12 + 1  # and that one tells no spacing


def test_burnt_in_text_is_taken_out_again(films, run, write_dicom, capsys):
    write_dicom(films / "name.dcm", knee(20), BurnedInAnnotation="YES", PatientID="P8")
    result, out = run(films, "burnt_in=true")
    assert (result["n_made"], result["n_failed"]) == (8, 0)
    assert run(films, "burnt_in=true")[0]["n_there"] == 8
    before = set(out.glob("images/*"))
    capsys.readouterr()
    result, _ = run(films)
    assert (result["exit_code"], result["n_made"], result["n_there"]) == (outcome.PARTLY, 0, 7)
    said = capsys.readouterr().err
    assert f"error: {films / 'name.dcm'}: text is burnt into the picture" in said
    assert "WARNING: 1 pictures of an earlier run were deleted" in said
    assert [item["reason"] for item in json.loads((out / "failed.json").read_text())] == ["burnt-in text"]
    left = set(out.glob("images/*"))
    assert left < before
    assert len(knees_of(out)) == len(record_of(out)) == len(left) == 7


def test_no_picture_outlives_its_row(run, write_dicom, tmp_path):
    write_dicom(tmp_path / "in/both.dcm", np.hstack([knee(1), knee(2)]), 12, PatientID="P1")
    write_dicom(tmp_path / "in/one.dcm", knee(3), 12, PatientID="P2")
    _, out = run(tmp_path / "in", "films=never")
    (out / "images/mine.png").write_bytes(b"not made by prepare")
    for films, count in (("always", 4), ("never", 2), ("always", 4), ("never", 2)):
        run(tmp_path / "in", f"films={films}")
        files = {f"images/{path.name}" for path in out.glob("images/*")} - {"images/mine.png"}
        assert files == set(knees_of(out)["path"])
        assert len(files) == count
    assert (out / "images/mine.png").is_file()


def test_an_output_of_other_names_is_refused(films, run, monkeypatch):
    monkeypatch.setattr(names, "VERSION", names.VERSION - 1)
    _, out = run(films)
    monkeypatch.setattr(names, "VERSION", names.VERSION + 1)
    with pytest.raises(InputError, match="by a version with other patient names"):
        run(films)
    assert len(list(out.glob("images/*"))) == 7


def test_nothing_that_names_anybody_is_left(run, write_dicom, tmp_path, capsys):
    """Planted in every place that could leak, and looked for in every byte and name of every output."""
    planted = [
        "ZYLBERSZTAJN", "19470311", "Quellenhof", "ACC778899", "20190214", "1.2.826.0.1.3680043.8.498.771", "MRN-55512",
        "Privatvermerk", "Dr.Hohenlohe", "Ordnername", "Dateiname", "Beinamen", "HSV^GEHEIM", "SchluesselDatei",
    ]  # fmt: skip
    folder = tmp_path / "Ordnername ZYLBERSZTAJN"
    tags = {
        "PatientName": "ZYLBERSZTAJN^Ada", "PatientBirthDate": "19470311", "InstitutionName": "Quellenhof",
        "AccessionNumber": "ACC778899", "StudyDate": "20190214", "PatientID": "MRN-55512",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.771", "ReferringPhysicianName": "Dr.Hohenlohe",
        "SeriesDescription": "LEFT KNEE ZYLBERSZTAJN", "ImageComments": "Beinamen", "ImagerPixelSpacing": [0.15, 0.15],
    }  # fmt: skip
    for number, more in enumerate(({}, {"PatientID": ""}, {"PatientID": None, "StudyInstanceUID": None})):
        file = write_dicom(folder / f"Dateiname{number}.dcm", knee(number), 12, **(tags | more))
        ds = pydicom.dcmread(file)
        ds.private_block(0x0011, "Privatvermerk", create=True).add_new(1, "LO", "Privatvermerk ZYLBERSZTAJN")
        ds.save_as(file)
    write_dicom(folder / "Dateiname7.dcm", knee(7), 12, **(tags | {"PhotometricInterpretation": "HSV^GEHEIM"}))
    write_dicom(folder / "Dateiname8.dcm", knee(8), 12, **(tags | {"ViewPosition": "LAT ZYLBERSZTAJN"}))
    write_dicom(folder / "Dateiname9.dcm", knee(9), 12, **(tags | {"VOILUTFunction": "Beinamen", "WindowWidth": 9,
                                                                  "WindowCenter": 9}))  # fmt: skip
    info = Image.Exif()
    info[270] = info[306] = "ZYLBERSZTAJN 20190214"
    Image.fromarray(knee(5).astype(np.uint8)).save(folder / "Dateiname.jpg", exif=info, comment=b"Quellenhof")
    key = tmp_path / "SchluesselDatei"
    key.write_text("Privatvermerk, a secret of some length")
    grades = tmp_path / "Dateiname.csv"
    grades.write_text("patient,side,grade\nMRN-55512,L,3\n")
    done = subprocess.run(
        [sys.executable, "-m", "koa_lightning.prepare", f"input={folder}", f"output={tmp_path / 'out'}",
         f"key_file={key}", f"grades={grades}"],
        capture_output=True, text=True, cwd=Path(prepare.__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == outcome.PARTLY, done.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in files} > FILES | {"ungraded.csv"}
    assert sum(path.suffix == ".png" for path in files) == 4
    assert len(json.loads((tmp_path / "out/failed.json").read_text())) == 3
    for file in files:
        content = str(file.relative_to(tmp_path / "out")).encode() + file.read_bytes()
        assert not [word for word in planted if word.lower().encode() in content.lower()], file
        assert str(tmp_path).encode() not in content
    rows = record_of(tmp_path / "out")
    assert sorted(row["patient_from"] for row in rows) == ["PatientID", "StudyInstanceUID", "content", "content"]
    assert sorted(row["side"] for row in rows) == ["", "L", "L", "L"]


def test_grades_by_original_ids(films, run, tmp_path, capsys):
    grades = tmp_path / "grades.csv"
    grades.write_text("patient,side,grade,reader\nP0,L,1,a\nP0,RIGHT,2,a\nP1,l,3,a\nP2,L,4,a\nP2,R,0,a\nP2,R,0,b\n")
    result, out = run(films, f"grades='{grades}'")
    assert result["n_knees"] == 6
    rows = rows_of_table(str(out / "knees.csv"))
    assert sorted(rows["grade"]) == [0, 1, 2, 3, 4, 4]
    assert len(pd.read_csv(out / "ungraded.csv")) == 1
    assert "1 pictures are missing from the table of grades" in capsys.readouterr().err
    run(films)
    assert not (out / "ungraded.csv").exists()
    assert "grade" not in knees_of(out)


def test_wrong_folders_and_keys(films, run, tmp_path, monkeypatch):
    def refuses(words, *overrides, where=films, out="out"):
        with pytest.raises(InputError, match=words):
            run(where, *overrides, out=out)

    refuses("lies in the input", out="in/P0/out")
    refuses("no image found", where=tmp_path / "nowhere")
    (tmp_path / "short").write_text("secret\n")
    refuses("a key of 6 characters can be guessed", f"key_file='{tmp_path / 'short'}'")
    refuses("there is no such file", "key_file=nowhere")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/key").write_text("a secret of some length")
    refuses("lies in the output", f"key_file='{tmp_path / 'out/key'}'")
    refuses("spacing=0: must be a number", "spacing=0")
    run(films)
    monkeypatch.setenv("KOA_KEY", "another secret of some length")
    refuses("was made with another key")
    (tmp_path / "out/record.jsonl").write_text("{}\n")
    refuses("not a record of this version")


def test_nothing_that_can_be_taken(run, write_dicom, tmp_path):
    write_dicom(tmp_path / "in/a.dcm", knee(), ViewPosition="LAT")
    with pytest.raises(InputError, match="no image is usable"):
        run(tmp_path / "in")
    assert len(json.loads((tmp_path / "out/failed.json").read_text())) == 1


def test_ctrl_c_keeps_what_is_done(films, launch, tmp_path, monkeypatch):
    from koa_lightning.data.prepare.record import Record

    add, calls = Record.add, []

    def interrupted(self, row):
        calls.append(row)
        if len(calls) == 4:
            raise KeyboardInterrupt
        add(self, row)

    monkeypatch.setattr(Record, "add", interrupted)
    arguments = f"input={films}", f"output={tmp_path / 'out'}", "quiet=true"
    ended = launch("prepare", *arguments)
    assert ended.code == outcome.INTERRUPTED
    assert ended.err[-2:] == ["3 pictures have been made; type the same command to continue", "error: interrupted"]
    assert len(knees_of(tmp_path / "out")) == len(list(tmp_path.glob("out/images/*"))) == 3
    monkeypatch.setattr(Record, "add", add)
    ended = launch("prepare", *arguments)
    assert (ended.code, ended.out[0]) == (outcome.DONE, "4 made, 3 already there, 0 omitted")
    assert len(knees_of(tmp_path / "out")) == 7


@pytest.mark.slow
def test_killed_run_is_finished_by_the_same_command(write_dicom, run, tmp_path):
    for number in range(40):
        write_dicom(tmp_path / f"in/{number}.dcm", knee(number, 512), PatientID=f"P{number}")
    command = [sys.executable, "-m", "koa_lightning.prepare", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"]
    process = subprocess.Popen([*command, "quiet=true"], cwd=Path(prepare.__file__).parents[1], env=dict(os.environ))
    while process.poll() is None and len(list(tmp_path.glob("out/images/*.png"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(record_of(tmp_path / "out"))
    result, out = run(tmp_path / "in")
    assert result["n_made"] + result["n_there"] == 40
    assert result["n_there"] >= min(done, 40) - 1
    _, whole = run(tmp_path / "in", out="whole")
    for path in whole.glob("images/*"):
        assert (out / "images" / path.name).read_bytes() == path.read_bytes()
    assert (out / "knees.csv").read_bytes() == (whole / "knees.csv").read_bytes()


def test_from_dicom_to_prediction_in_two_commands(films, launch, trained, tmp_path):
    ended = launch("prepare", f"input={films}", f"output={tmp_path / 'out dir'}", "quiet=true")
    assert ended.code == outcome.DONE
    ended = launch("predict", f"ckpt={trained.best}", f"input={tmp_path / 'out dir'}", "quiet=true", "out=graded")
    assert ended.code == outcome.DONE
    table = pd.read_csv("graded/predictions.csv")
    assert len(table) == 7
    direct = launch("predict", f"ckpt={trained.best}", f"input={films}", "quiet=true", "out=direct")
    assert direct.code == outcome.DONE
    columns = ["p0", "p1", "p2", "p3", "p4"]
    ours, theirs = (
        np.sort(frame[columns].to_numpy(), axis=0) for frame in (table, pd.read_csv("direct/predictions.csv"))
    )
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_answers_before_anything_heavy(launch):
    assert launch("prepare", "output=x").err == ["error: input: must be given; type input=VALUE"]
    assert launch("prepare", "input=x").err == ["error: output: must be given; type output=VALUE"]
    assert launch("prepare", "input=x", "output=y", "films=all").err == [
        "error: films=all: must be one of auto, never, always"
    ]
