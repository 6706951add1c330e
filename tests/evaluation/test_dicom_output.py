import json

import highdicom
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.predict import predict

UIDS = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5", "PatientID": "4711", "PatientName": "A^B"}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 4000, (height, width), np.uint16)


@pytest.fixture
def ckpt(write_checkpoint, tmp_path):
    return write_checkpoint(tmp_path / "best.ckpt")


@pytest.fixture
def films(write_dicom, tmp_path, monkeypatch):
    monkeypatch.setenv("KOA_KEY", "0123456789abcdef" * 4)
    write_dicom(tmp_path / "in/a.dcm", picture(1300, 1100), ImageLaterality="R", **UIDS)
    write_dicom(tmp_path / "in/sub/a.dcm", picture(90, 80, 1), ImageLaterality="L", **UIDS)
    return tmp_path / "in"


@pytest.fixture
def run(ckpt, tmp_path):
    def run(where, *overrides, out="out"):
        given = [f"ckpt='{ckpt}'", f"input='{where}'", f"out='{tmp_path / out}'", "quiet=true", "dicom=true"]
        return predict(compose("predict", [*given, *overrides])), tmp_path / out

    return run


def test_each_film_gets_both_objects_and_they_say_what_the_table_says(run, films, capsys):
    before = sorted(films.rglob("*"))
    result, out = run(films)
    assert (result["exit_code"], result["n_graded"]) == (0, 2)
    assert sorted(films.rglob("*")) == before
    files = sorted((out / "dicom").iterdir())
    assert [file.name[-7:] for file in files] == ["-sc.dcm", "-sr.dcm"] * 2
    knees = {knee["path"]: knee for knee in json.loads((out / "predictions.json").read_text())["knees"]}
    sides = {}
    for path, knee in knees.items():
        film = dcmread(path)
        mine = [file for file in files if dcmread(file).file_meta and film.SOPInstanceUID in dcmread(file).to_json()]
        assert [file.name[-7:] for file in mine] == ["-sc.dcm", "-sr.dcm"]
        [group] = highdicom.sr.srread(mine[1]).content.get_image_measurement_groups()
        measured = {each.name.value: each.value for each in group.get_measurements()}
        assert [measured[f"KL-P{grade}"] for grade in range(5)] == pytest.approx(knee["probabilities"], abs=1e-5)
        said = {each.name.value: each.value.value for each in group.get_qualitative_evaluations()}
        assert said == {"KL": f"KL-{knee['grade']}", "USE": "RUO"}
        capture = dcmread(mine[0])
        sides[capture.Laterality] = capture
        assert capture.PatientID == "4711"
    assert set(sides) == {"L", "R"}
    assert (sides["R"].Columns, sides["L"].Columns) == (round(1100 * 1024 / 1300), 80)  # large ones are reduced
    assert sides["R"].Rows > 1024 and sides["L"].Rows > 90  # the words
    words = sides["R"].pixel_array[1024:]
    assert words.max() > 200 and sides["R"].pixel_array[:1024].std() > 10


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"StudyInstanceUID": None}, "has no StudyInstanceUID"),
        ({"NumberOfFrames": 2}, "DICOM with 2 frames"),
        ({"ViewPosition": "LL"}, "a lateral view"),
    ],
)
def test_what_gets_no_report_is_one_line_and_the_rest_goes_on(run, films, write_dicom, capsys, elements, words):
    write_dicom(films / "b.dcm", picture(80, 70, 2), **{**UIDS, **elements})
    Image.fromarray(picture(60, 60).astype(np.uint8)).save(films / "c.png")
    result, out = run(films)
    assert (result["exit_code"], result["n_graded"], result["n_failed"]) == (1, 2, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and words in lines[0]
    assert "c.png: not a DICOM file, so dicom=true has no patient and no study" in lines[1]
    assert len(list((out / "dicom").iterdir())) == 4
    assert "1.2.3.4" not in (out / "failed.json").read_text()


def test_a_picture_alone_is_refused(run, tmp_path):
    Image.fromarray(picture(60, 60).astype(np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"no readable image: .*c\.png: not a DICOM file") as error:
        run(tmp_path / "c.png")
    assert "\n" not in str(error.value)


def test_results_that_exist_are_not_replaced(run, films, tmp_path):
    run(films)
    before = {file: file.read_bytes() for file in (tmp_path / "out/dicom").iterdir()}
    with pytest.raises(
        InputError, match=r"out/dicom: already exists, and dicom=true overwrites nothing; name another out=FOLDER$"
    ):
        run(films)
    assert {file: file.read_bytes() for file in (tmp_path / "out/dicom").iterdir()} == before
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dicom").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="other/dicom: already exists"):
        run(films, out="other")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_maps_there_is_nothing_to_show(run, films):
    for switch in ("overlays=false", "explain=none"):
        with pytest.raises(InputError, match=r"^dicom=true: .* omit overlays=false and explain=none$"):
            run(films, switch)


def test_a_folder_that_takes_no_file(run, films, tmp_path, monkeypatch):
    from koa_lightning.reporting import dicom_results

    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "out/dicom/a-sc.dcm"))

    monkeypatch.setattr(dicom_results, "write_results", full)
    with pytest.raises(OSError, match="a-sc"):
        run(films)
    assert not list((tmp_path / "out/overlays").iterdir())  # of knees that are in no table
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(films, out="file/out")
