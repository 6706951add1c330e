import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from koa_lightning.checkpoint import reading
from koa_lightning.config import outcome
from koa_lightning.config.compose import compose
from koa_lightning.data.images import MAX_BYTES, read_image
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare import names
from koa_lightning.errors import InputError
from koa_lightning.evaluation import predict, referral
from koa_lightning.metrics import predictions

pytestmark = pytest.mark.usefixtures("blank_figures")

TABLE = [
    "path", "patient", "side", "grade", "predicted", "expected_grade", "median_grade",
    *predictions.PROBABILITIES, *predictions.LOGITS,
    "name", *referral.COLUMNS, "overlay",
]  # fmt: skip


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def write_dicom(file, pixels):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(file, enforce_file_format=True)


@pytest.fixture
def mixed(tmp_path):
    """A folder with nine readable files of all kinds and sizes, and a truncated one."""
    folder = tmp_path / "mixed, odd [names]"
    (folder / "sub").mkdir(parents=True)
    gray = picture(90, 71)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(gray).convert("RGB").save(folder / "photo.JPG")
    Image.fromarray(gray).convert("RGBA").save(folder / "alpha.webp", lossless=True)
    Image.fromarray(gray).convert("P").save(folder / "palette.bmp")
    Image.fromarray(gray.astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(picture(30, 300)).save(folder / "wide.tiff")
    Image.fromarray(picture(9, 9)).save(folder / "small.tif")
    Image.fromarray(gray).save(folder / "sub" / "gray.png")
    write_dicom(folder / "knee.dcm", picture(64, 80).astype(np.uint16) * 16)
    (folder / "cut off.png").write_bytes((folder / "gray.png").read_bytes()[:900])
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def grade(trained, tmp_path):
    """Grade with the trained run; returns the result, the table and the folder."""

    def run(where, *overrides, ckpt=trained.best):
        out = tmp_path / "out"
        cfg = compose("predict", [f"ckpt='{ckpt}'", f"input='{where}'", f"out='{out}'", "quiet=true", *overrides])
        result = predict.predict(cfg)
        return result, pd.read_csv(Path(cfg.out) / "predictions.csv"), out

    return run


def logits(rows):
    return rows[predictions.LOGITS].to_numpy()


def test_every_kind_of_file_and_one_that_is_broken(mixed, grade, capsys):
    result, rows, out = grade(mixed)
    assert (result["exit_code"], result["n_graded"], result["n_failed"]) == (outcome.PARTLY, 9, 1)
    assert list(rows.columns) == TABLE
    assert {Path(path).name for path in rows["path"]} == {
        "gray.png", "photo.JPG", "alpha.webp", "palette.bmp", "deep.png", "wide.tiff", "small.tif", "knee.dcm",
    }  # fmt: skip
    assert rows["grade"].isna().all()
    np.testing.assert_allclose(rows[predictions.PROBABILITIES].sum(axis=1), 1, atol=1e-5)
    parquet = pd.read_parquet(out / "predictions.parquet")
    assert list(parquet.columns) == TABLE
    np.testing.assert_allclose(parquet[predictions.PROBABILITIES], rows[predictions.PROBABILITIES], atol=1e-6)
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith(f"error: {mixed}/cut off.png: truncated or damaged image")
    assert list(json.loads((out / "failed.json").read_text())) == [f"{mixed}/cut off.png"]
    assert "WARNING: the model carries the caveat: phantom data" in printed.out
    assert printed.out.splitlines()[-1] == f"9 graded, 1 not readable; written to {out}"


def test_a_name_that_is_not_utf_8_is_told_and_the_rest_is_graded(mixed, grade, capsys):
    strange = os.fsencode(mixed) + b"/caf\xe9.png"
    shutil.copyfile(mixed / "gray.png", strange)
    result, rows, out = grade(mixed)
    assert (result["exit_code"], result["n_graded"], result["n_failed"]) == (1, 9, 2)
    name = f"{mixed}/caf\\xe9.png"
    assert f"error: {name}: the name of this file is not UTF-8; rename it" in capsys.readouterr().err
    assert name in json.loads((out / "failed.json").read_text())
    assert len(rows) == 9


@pytest.mark.sample(1)
@pytest.mark.parametrize("pattern", ["^(?P<patient>(a|aa)+)$", "(?P<patient>a{1,60}){1,60}b", "(?P<patient>(?R))"])
def test_a_pattern_in_a_checkpoint_cannot_hang(grade, trained, tmp_path, pattern):
    content = torch.load(trained.best, weights_only=True)
    name = next(key for key, entry in content.items() if isinstance(entry, dict) and "config" in entry)
    content[name]["config"]["data"] |= {"name": "folder", "pattern": pattern}
    torch.save(content, tmp_path / "hostile.ckpt")
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(picture(40, 40)).save(tmp_path / "in" / f"{'a' * 200}!{number}.png")
    with pytest.raises(InputError, match=f"^data.pattern={re.escape(pattern)}: takes too long to read the name aaa"):
        grade(tmp_path / "in", "overlays=false", ckpt=tmp_path / "hostile.ckpt")
    assert not (tmp_path / "out").exists()


def test_a_batch_of_null(grade, mixed):
    with pytest.raises(InputError, match="batch_size=null: must be a whole number"):
        grade(mixed, "batch_size=null")


def test_json(mixed, grade):
    _, rows, out = grade(mixed)
    written = json.loads((out / "predictions.json").read_text())
    assert written["note"] == "research use only, not a medical device"
    assert written["marks"] == ["phantom data", "no pretrained weights"]
    assert [knee["path"] for knee in written["knees"]] == rows["path"].tolist()
    for knee, row in zip(written["knees"], rows.to_dict("records"), strict=True):
        assert knee["grade"] == row["predicted"] == int(np.argmax(knee["probabilities"]))
        assert knee["name"] == ["none", "doubtful", "minimal", "moderate", "severe"][knee["grade"]] == row["name"]
        assert knee["expected_grade"] == pytest.approx(np.dot(knee["probabilities"], range(5)), abs=1e-3)
        assert Path(knee["overlay"]).is_file()


def test_an_overlay_a_file_with_words_below(mixed, grade):
    _, rows, _ = grade(mixed)
    assert rows["overlay"].nunique() == 9  # two files are called gray.png
    for file in rows["overlay"]:
        picture = np.asarray(Image.open(file))
        assert picture.shape[2] == 3 and picture.shape[0] > 12 * 3
        assert picture[-14:].max() > 200  # the words


def test_an_overlay_explains_the_grade_that_is_told(mixed, grade, monkeypatch):
    asked, heat_maps = [], predict.heat_maps
    monkeypatch.setattr(
        predict, "heat_maps", lambda n, i, grades=None, **o: asked.append(grades) or heat_maps(n, i, grades, **o)
    )
    _, rows, _ = grade(mixed)
    assert np.concatenate([grades for grades in asked if grades is not None]).tolist() == rows["predicted"].tolist()


def test_a_long_name_has_an_overlay_too(grade, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("x" * 250, "é" * 124):
        Image.fromarray(picture(40, 40)).save(tmp_path / "in" / f"{name}.png")
    result, rows, _ = grade(tmp_path / "in")
    assert result["exit_code"] == 0
    assert all(Path(file).is_file() for file in rows["overlay"])


def test_the_overlays_of_an_earlier_run_are_not_graded(mixed, grade):
    first = grade(mixed, f"out='{mixed}/graded'")[0]
    again = grade(mixed, f"out='{mixed}/graded'")[0]
    assert [first["n_graded"], first["n_failed"]] == [again["n_graded"], again["n_failed"]] == [9, 1]


@pytest.fixture
def stops_at_the_third_batch(monkeypatch):
    """Lets grading end with an error of a kind when the third batch is drawn."""

    def set_up(error):
        real, calls = predict._overlays, []

        def stops(*arguments):
            calls.append(len(calls))
            if len(calls) == 3:
                raise error
            return real(*arguments)

        monkeypatch.setattr(predict, "_overlays", stops)

    return set_up


def test_what_is_graded_is_kept_when_it_is_interrupted(mixed, grade, stops_at_the_third_batch, capsys):
    stops_at_the_third_batch(KeyboardInterrupt())
    result, rows, out = grade(mixed, "batch_size=2")
    written = json.loads((out / "predictions.json").read_text())
    assert (result["exit_code"], result["n_graded"]) == (outcome.INTERRUPTED, 3)
    assert len(rows) == len(written["knees"]) == 3  # two batches of two, of which one file is cut off
    assert written["not_graded"] == 6
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"3 graded, 1 not readable, 6 not graded because it was stopped; written to {out}"
    )


def test_what_is_graded_is_kept_when_the_disk_is_full(mixed, grade, stops_at_the_third_batch, capsys, tmp_path):
    stops_at_the_third_batch(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        grade(mixed, "batch_size=2")
    file = tmp_path / "out" / "predictions.csv"
    assert list(pd.read_csv(file).columns) == TABLE
    assert len(pd.read_csv(file)) == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"3 of 10 graded; they are in {file}"


def test_a_table_on_a_full_disk_keeps_whole_rows(tmp_path, monkeypatch):
    file, rows = tmp_path / "a.csv", pd.DataFrame({"path": ["x"], "p0": [0.5]})
    predict._append(rows, file, first=True)
    before = file.read_text()

    def full(self, file, **_):
        with file.open("a") as opened:
            opened.write("half a r")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(OSError, match=str(file)):
            predict._append(rows, file, first=False)
    assert file.read_text() == before
    predict._append(rows, file, first=False)
    assert len(pd.read_csv(file)) == 2


def test_a_table_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"a\.csv"):
        predict._append(pd.DataFrame({"path": ["x"]}), tmp_path / "a.csv", first=True)


def test_interrupted_before_anything_is_graded(mixed, grade, monkeypatch):
    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_overlays", stops)
    with pytest.raises(KeyboardInterrupt):
        grade(mixed)


def test_a_network_that_gives_no_numbers_is_refused(mixed, grade, trained, tmp_path):
    content = torch.load(trained.best, weights_only=True)
    last = list(content["state_dict"])[-1]
    content["state_dict"][last][:] = float("nan")
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match=r"nan.ckpt: its network gives NaN or infinite logits, so its weights are dam"):
        grade(mixed, "overlays=false", ckpt=tmp_path / "nan.ckpt")


def test_a_file_too_large_for_an_image_is_told(mixed, grade, capsys):
    with (mixed / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    result, _, _ = grade(mixed, "overlays=false")
    assert (result["n_graded"], result["n_failed"]) == (9, 2)
    assert f"error: {mixed}/huge.png: is too large for an image (2.0 GB, 2 at most)" in capsys.readouterr().err


@pytest.mark.slow
def test_without_overlays(mixed, grade):
    _, rows, out = grade(mixed, "overlays=false")
    assert rows["overlay"].isna().all()
    assert not (out / "overlays").exists()


def test_the_same_logits_whatever_the_batch_and_as_the_network_gives(mixed, grade, trained):
    _, rows, _ = grade(mixed)
    _, one_by_one, _ = grade(mixed, "batch_size=1", "overlays=false")
    assert one_by_one["path"].tolist() == rows["path"].tolist()
    np.testing.assert_allclose(logits(rows), logits(one_by_one), atol=1e-5)
    read = reading.read(trained.best)
    image = torch.from_numpy(read.preprocessing.apply(read_image(rows["path"][0]), "").copy())[None, None]
    with torch.no_grad():
        expected = read.network()(read.network().normalise(image))
    np.testing.assert_allclose(logits(rows)[:1], expected, atol=1e-5)


def test_a_file_and_a_pattern(mixed, grade):
    result, rows, _ = grade(mixed / "gray.png")
    assert (result["exit_code"], len(rows)) == (outcome.DONE, 1)
    plain = mixed.rename(mixed.parent / "plain")
    _, rows, _ = grade(f"{plain}/*.t*")
    assert {Path(path).name for path in rows["path"]} == {"wide.tiff", "small.tif"}


def test_eval_and_predict_agree(knees, grade, trained, tmp_path):
    from koa_lightning.evaluation.evaluate import evaluate

    overrides = ["data=folder", f"data.root='{knees}'", "split=all", "explain=none", "tracking=none"]
    evaluate(compose("eval", [f"ckpt={trained.best}", f"out='{tmp_path}/evaluated'", "report=false", *overrides]))
    evaluated = pd.read_csv(tmp_path / "evaluated/predictions.csv").sort_values("path")
    _, rows, _ = grade(knees, "overlays=false")
    assert rows["path"].tolist() == evaluated["path"].tolist()
    np.testing.assert_allclose(logits(rows), logits(evaluated), atol=1e-5)


def test_flip(knees, grade):
    _, one, _ = grade(knees / "0", "overlays=false")
    _, both, _ = grade(knees / "0", "overlays=false", "tta=flip")
    assert np.abs(logits(one) - logits(both)).max() > 1e-4


def test_a_model_of_one_side_mirrors_the_other(trained, grade, place, knees):
    content = torch.load(trained.best, weights_only=True)
    content["koa_lightning"]["preprocessing"]["canonical_side"] = "L"
    torch.save(content, "left.ckpt")
    left, right, unknown = (grade(knees / "0", "overlays=false", f"side={side}", ckpt="left.ckpt")[1] for side in "LR ")
    np.testing.assert_array_equal(logits(left), logits(unknown))
    assert np.abs(logits(left) - logits(right)).max() > 1e-4
    assert right["side"].tolist() == ["R"] * len(right)


def test_patient_and_side_are_read_from_names_like_those_trained_on(trained, grade, place, knees, capsys):
    content = torch.load(trained.best, weights_only=True)
    content["koa_lightning"]["preprocessing"]["canonical_side"] = "L"
    content["koa_lightning"]["config"]["data"] |= {"name": "chen2018", "root": "gone"}
    torch.save(content, "left.ckpt")
    (place / "films").mkdir()
    one = sorted((knees / "0").iterdir())[0]
    for name in ("9001104L", "9001104R", "other"):
        shutil.copy(one, place / "films" / f"{name}{one.suffix}")
    _, given, _ = grade("films", "overlays=false", ckpt="left.ckpt")
    assert given["patient"].fillna(0).tolist() == [9001104, 9001104, 0]
    assert given["side"].fillna("").tolist() == ["L", "R", ""]
    warned = [line for line in capsys.readouterr().out.splitlines() if "mirrors" in line]
    assert len(warned) == 1 and "the side of 1 of 3 is unknown" in warned[0]
    _, right, _ = grade("films", "overlays=false", "side=R", ckpt="left.ckpt")
    assert right["side"].tolist() == ["R"] * 3 and "mirrors" not in capsys.readouterr().out
    np.testing.assert_allclose(logits(given)[1], logits(right)[1], atol=1e-6)
    np.testing.assert_allclose(logits(given)[0], logits(given)[2], atol=1e-6)
    assert np.abs(logits(given)[0] - logits(given)[1]).max() > 1e-4


def test_nothing_that_can_be_read(mixed, place, trained, launch):
    (place / "bad").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(mixed / "cut off.png", place / "bad" / name)
    ended = launch("predict", f"ckpt={trained.best}", "input=bad")
    assert (ended.code, len(ended.err)) == (outcome.BAD_INPUT, 1)
    assert ended.err[0].startswith("error: input=bad: no readable image: bad/a.png: truncated or damaged image")
    assert ended.err[0].endswith("(and 1 more that cannot be read)")
    assert list((place / "outputs").iterdir()) == []


def test_from_the_command_line(mixed, place, trained, launch):
    ended = launch("predict", f"ckpt={trained.best}", f"input={mixed}", "out=my out, 1", "overlays=false")
    assert ended.code == outcome.PARTLY
    assert ended.out[-1] == f"9 graded, 1 not readable; written to {place}/my out, 1"
    assert ended.out[-2] == "research use only, not a medical device"
    assert len([line for line in ended.out if ": grade " in line]) == 9


def test_a_checkpoint_by_its_run(trained, grade, knees, monkeypatch):
    monkeypatch.chdir(trained.place)
    result, _, _ = grade(knees / "4", "overlays=false", ckpt=f"runs:/{trained.result['run_id']}")
    assert result["exit_code"] == outcome.DONE


def test_no_image(grade, tmp_path):
    with pytest.raises(InputError, match="no image found"):
        grade(tmp_path / "nothing")


def test_words_are_broken_into_lines_that_fit():
    shown = predict.with_words(np.zeros((40, 64, 3), np.uint8), ["word " * 20], 12)
    assert shown.size[0] == 64
    pixels = np.asarray(shown)
    assert not pixels[:, -1].any()  # nothing is cut at the right edge
    assert pixels[-20:].any()


@pytest.fixture
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("KOA_KEY", "no-key-that-matters")
    return names.find_key(None, tmp_path / "out")


def film_of_both(size=200):
    right, left = draw_phantoms(["p", "p"], ["R", "L"], [0, 2], seed=1, size=size)
    return np.hstack([right, left]).astype(np.uint16) * 16


def test_dicom_headers_tell_side_and_hashed_patient(tmp_path, grade, write_dicom, own_key):
    folder = tmp_path / "films"
    for number, (patient, side) in enumerate([("GEHEIM^ANNA", "L"), ("GEHEIM^ANNA", "R"), ("Other", None)]):
        pixels = picture(90, 71, number).astype(np.uint16)
        write_dicom(folder / f"1.2.840.{number}.dcm", pixels, PatientID=patient, ImageLaterality=side)
    write_dicom(folder / "1.2.840.9.dcm", picture(90, 71).astype(np.uint16), StudyInstanceUID="1.2.3")
    result, rows, out = grade(folder)
    assert result["exit_code"] == outcome.DONE
    wanted = [own_key.patient(name) for name in ("GEHEIM^ANNA", "GEHEIM^ANNA", "Other", "1.2.3")]
    assert rows["patient"].tolist() == wanted
    assert rows["side"].fillna("").tolist() == ["L", "R", "", ""]
    written = [file for file in out.rglob("*") if file.is_file()]
    assert len(written) > 6
    assert not any(b"GEHEIM" in file.read_bytes() or b"ANNA" in file.read_bytes() for file in written)


def test_a_message_that_quotes_a_header_goes_to_the_terminal_alone(tmp_path, grade, write_dicom, own_key, capsys):
    folder = tmp_path / "films"
    write_dicom(folder / "a.dcm", picture(90, 71).astype(np.uint16), PatientID="P1")
    write_dicom(folder / "b.dcm", picture(90, 71).astype(np.uint16), ViewPosition="LL", PatientID="P1")
    file = write_dicom(folder / "c.dcm", picture(90, 71).astype(np.uint16), WindowCenter="8765", WindowWidth=9)
    file.write_bytes(file.read_bytes().replace(b"8765", b"Anna"))
    result, _, out = grade(folder, "overlays=false")
    assert (result["n_graded"], result["n_failed"]) == (1, 2)
    assert "WindowCenter is not a number (could not convert string to float: 'Anna')" in capsys.readouterr().err
    given = json.loads((out / "failed.json").read_text())
    assert list(given.values()) == [
        f"{folder}/b.dcm: a lateral view", f"{folder}/c.dcm: window or table that cannot be applied",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["dcm", "png"])
def test_a_film_of_both_knees_gets_no_single_grade(tmp_path, grade, write_dicom, own_key, capsys, kind):
    folder = tmp_path / "films"
    write_dicom(folder / "one.dcm", film_of_both()[:, :200], PatientID="P1")
    if kind == "dcm":
        write_dicom(folder / "two.dcm", film_of_both(), PatientID="P1")
    else:
        Image.fromarray((film_of_both() // 16).astype(np.uint8)).save(folder / "two.png")
    result, rows, _ = grade(folder, "overlays=false")
    assert (result["n_graded"], result["n_failed"]) == (1, 1)
    assert rows["path"].str.endswith("one.dcm").all()
    said = capsys.readouterr().err
    assert f"two.{kind}: shows both knees, so it gets no single grade; type python -m koa_lightning.prepare" in said
    result, _, _ = grade(folder, "overlays=false", "films=never")
    assert (result["n_graded"], result["n_failed"]) == (2, 0)
    with pytest.raises(InputError, match="films=always: predict does not cut films"):
        grade(folder, "films=always")


def test_header_and_name_that_disagree_and_burnt_in_text_are_said(
    tmp_path, trained, grade, write_dicom, own_key, capsys
):
    content = torch.load(trained.best, weights_only=True)
    content["koa_lightning"]["config"]["data"] |= {"name": "chen2018", "root": "gone"}
    torch.save(content, tmp_path / "chen.ckpt")
    held = {"PatientID": "P1", "ImageLaterality": "R", "BurnedInAnnotation": "YES"}
    write_dicom(tmp_path / "films/9001104L.dcm", picture(90, 71).astype(np.uint16), **held)
    _, rows, _ = grade(tmp_path / "films", "overlays=false", ckpt=tmp_path / "chen.ckpt")
    assert rows["side"].tolist() == ["R"]
    said = capsys.readouterr().out
    assert "WARNING: 1 of the DICOM files have different sides in name and header" in said
    assert "WARNING: 1 of the DICOM files say that text is burnt in" in said


def test_pictures_of_prepare_keep_their_patient_and_side(tmp_path, grade):
    for name in ("0123456789abcdef-L-1.png", "0123456789abcdef-U-1.png"):
        (tmp_path / "films").mkdir(exist_ok=True)
        Image.fromarray(picture(90, 71)).save(tmp_path / "films" / name)
    _, rows, _ = grade(tmp_path / "films", "overlays=false")
    assert rows["patient"].tolist() == ["0123456789abcdef"] * 2
    assert rows["side"].fillna("").tolist() == ["L", ""]


def test_a_key_that_is_missing_is_refused_before_anything_is_graded(mixed, grade):
    with pytest.raises(InputError, match="key_file=gone: there is no such file"):
        grade(mixed, "key_file=gone")


def test_a_thumbnail_of_the_system_is_not_graded(mixed, grade, capsys):
    for name in ("@eaDir/gray.png", "#recycle", "__MACOSX"):
        (mixed / name).mkdir(parents=True)
        shutil.copy(mixed / "gray.png", mixed / name / "SYNOPHOTO_THUMB_M.png")
    result, rows, _ = grade(mixed, "overlays=false")
    assert result["n_graded"] == 9
    assert not rows["path"].str.contains("THUMB").any()
    assert f"skipped {mixed}/#recycle and 2 more" in capsys.readouterr().err
