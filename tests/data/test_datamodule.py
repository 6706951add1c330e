import gc
import pickle
import re
import sys
import weakref
from collections import Counter
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from koa_lightning.data import cache, polarity
from koa_lightning.data import manifest as mf
from koa_lightning.data.audit import leakage
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.sources.chen2018 import chen2018 as rows_of_chen2018
from koa_lightning.data.sources.phantom import phantom as rows_of_phantom
from koa_lightning.data.sources.table import table as rows_of_table
from koa_lightning.errors import InputError

SIZE = 16
SPLITS = ("train", "val")


def knee(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)


def chen(root, splits=("train", "val", "test", "auto_test"), patients=10):
    """Write the layout of Chen 2018: two knees a patient, each grade in each split; return the folder."""
    numbers = {"train": 9_000_000, "val": 9_100_000, "test": 9_200_000, "auto_test": 9_200_000}
    for split in splits:
        for i in range(patients):
            for side in ("_1", "_2") if split == "auto_test" else "LR":
                file = root / split / str((i + (side == "R")) % 5) / f"{numbers[split] + i}{side}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(knee(len(list(root.rglob("*.png"))))).save(file)
    return root


def module(root, source=rows_of_chen2018, tmp=None, **options):
    usual = {"name": "chen2018", "preprocessing": Preprocessing(SIZE), "batch_size": 4, "quiet": True}
    cache_dir = str(tmp or root.parent / "cache")
    return KneeDataModule(lambda: source(str(root)), **usual | {"cache_dir": cache_dir} | options)


def as_folder(root):
    """Pour all splits together."""
    return mf.make(rows_of_chen2018(str(root)).assign(split=""), "folder")


@pytest.fixture
def root(tmp_path):
    return chen(tmp_path / "chen")


@pytest.fixture(scope="module")
def watched():
    """Collect every file that Python opens while a list is set; a hook cannot be taken off, so it is one a module."""
    state = {"opened": None}

    def hook(event, arguments):
        if event == "open" and state["opened"] is not None:
            state["opened"].append(str(arguments[0]))

    sys.addaudithook(hook)
    return state


@pytest.fixture
def opened(watched):
    watched["opened"] = []
    yield watched["opened"]
    watched["opened"] = None


# --- what is opened


def test_training_opens_no_file_of_the_test_splits(root, opened):
    module(root).prepare(SPLITS, root.parent / "manifest.parquet")
    images = Counter(path for path in opened if path.startswith(str(root)) and path.endswith(".png"))
    assert {Path(path).parts[-3] for path in images} == {"train", "val"}
    assert len(images) == 40
    assert max(images.values()) == 2  # hashed once, decoded once
    opened.clear()
    module(root).prepare(SPLITS)
    assert Counter(path for path in opened if path.endswith(".png")) == dict.fromkeys(images, 1)  # hashed, not decoded


def test_training_does_not_notice_what_happens_to_the_test_files(root, opened):
    before = module(root).prepare(SPLITS)
    for i, file in enumerate([*root.glob("test/*/*"), *root.glob("auto_test/*/*")]):
        file.unlink()
        if i % 3 == 0:
            file.write_bytes(b"damaged")
        elif i % 3 == 1:
            file.symlink_to(root / "nowhere")
    opened.clear()
    after = module(root).prepare(SPLITS)
    assert after.fingerprint == before.fingerprint
    assert after.counts == before.counts
    assert not any("test/" in path for path in opened if path.startswith(str(root)))
    assert any("val/" in path for path in opened if path.startswith(str(root)))


@pytest.mark.parametrize("options", [{"split": "stratified"}, {"folds": 3, "fold": 1}])
def test_made_splits_keep_their_test_files_closed(root, opened, options):
    data = module(root, **options).prepare(SPLITS)
    images = {path for path in opened if path.startswith(str(root)) and path.endswith(".png")}
    assert len(images) == len(data.datasets["train"]) + len(data.datasets["val"])
    opened.clear()
    tested = set(module(root, **options).prepare(("test",)).tables["test"]["path"])
    assert tested
    assert not tested & images
    assert not any("auto_test/" in path for path in images | tested)


def test_a_table_whose_test_files_are_missing_can_be_trained_on(root, opened):
    rows = rows_of_chen2018(str(root))
    rows.to_csv(root / "knees.csv")
    for split in ("test", "auto_test"):
        (root / split).rename(root / f"gone_{split}")
    data = module(root / "knees.csv", rows_of_table, root.parent / "c", name="table").prepare(SPLITS)
    assert data.counts == {"train": [4] * 5, "val": [4] * 5}
    with pytest.raises(InputError, match="the file is missing"):
        module(root / "knees.csv", rows_of_table, root.parent / "c", name="table").prepare(("test",))


def test_the_test_splits_are_opened_when_they_are_asked_for(root):
    assert len(module(root).prepare(("test",)).datasets["test"]) == 20
    data = module(root).prepare(("auto_test",))
    assert data.tables["auto_test"]["split"].eq("auto_test").all()
    assert data.counts == {"auto_test": [4] * 5}


def test_auto_test_is_refused_where_its_patients_were_trained_on(root):
    with pytest.raises(InputError, match=r"in two splits: 92"):
        module(root, split="stratified").prepare(("auto_test",))
    module(root, split="stratified").prepare(SPLITS)


def test_all_is_every_knee_but_those_of_auto_test(root):
    data = module(root).prepare(("all",))
    assert len(data.datasets["all"]) == 60
    assert not data.tables["all"]["path"].str.contains("auto_test").any()
    one = as_folder(root)
    one = one[one["patient"] == one["patient"][0]].reset_index(drop=True)
    alone = module(root, source=lambda _: one, split="stratified").prepare(("all",))  # one patient: no splits
    assert len(alone.datasets["all"]) == len(one)


# --- bad input


def refuses(match, data, splits=SPLITS):
    with pytest.raises(InputError, match=match) as caught:
        data.prepare(splits)
    assert "\n" not in str(caught.value)


def test_a_split_without_a_grade_stops(root):
    for file in root.glob("val/3/*"):
        file.unlink()
    refuses("data=chen2018: the val split has no knee of grade 3; add some", module(root))
    module(root).prepare(("val",))  # to evaluate is possible


def test_a_missing_split_stops(tmp_path):
    root = chen(tmp_path / "chen", splits=("train", "test"))
    refuses("no knee in the val split; existing splits: train, test; data.split=stratified makes splits", module(root))
    refuses("no knee in the val split; existing splits: train, test; type split=NAME", module(root), ("val",))


def test_one_patient_and_too_few_for_the_folds_stop(root):
    rows = as_folder(root)
    one = rows[rows["patient"] == rows["patient"][0]].reset_index(drop=True)
    refuses(r"1 patient\(s\) cannot be split into 3", module(root, lambda _: one, split="stratified"))
    refuses(r"20 patient\(s\) are fewer than data.folds=21", module(root, folds=21))


@pytest.fixture
def pair(root, alone):
    """A knee of the train split and another of the val split."""
    return sorted((root / "train").rglob("*.png"))[3], sorted((root / "val").rglob("*.png"))[5]


@pytest.fixture
def leaks(root, pair, tmp_path, monkeypatch):
    """Make a leak of one kind between train and val; return what the error says."""
    monkeypatch.setenv("KOA_CACHE", str(tmp_path / "cache"))
    first, second = pair

    def make(kind):
        if kind == "patient":
            first.rename(first.with_name(second.name.replace("L", "X").replace("R", "L").replace("X", "R")))
            return "1 patient.s. in two splits: 9100"
        if kind == "bytes":
            second.write_bytes(first.read_bytes())
        elif kind == "pixels":
            Image.open(first).save(second, compress_level=0)
            assert first.read_bytes() != second.read_bytes()
        else:
            rows = rows_of_chen2018(str(root))
            rows["hash"] = [mf.hash_file(path) for path in rows["path"]]
            at = [rows.index[rows["path"] == str(path)][0] for path in sorted(pair, key=str)]
            near = pd.DataFrame([(*at, 0.93)], columns=["row_a", "row_b", "similarity"])
            leakage.remember(rows, leakage.as_pairs([], near), {"near_duplicate"})
            return "near duplicates in an earlier audit, similarity 0.93"
        return (
            f"1 pair.s. of files in two splits show the same knee: {first} .train. and {second} .val.: the same pixels"
        )

    return make


@pytest.mark.parametrize("kind", ["patient", "bytes", "pixels", "near"])
def test_parts_that_share_a_patient_or_a_knee_stop(root, leaks, kind):
    module(root).prepare(SPLITS)
    words = leaks(kind)
    refuses(f"{words}.*; data.allow_leakage=true continues", module(root))


@pytest.mark.parametrize("kind", ["patient", "pixels", "near"])
def test_a_leak_that_is_allowed_is_said_and_marked(root, leaks, kind, capsys):
    words = leaks(kind)
    data = module(root, allow_leakage=True).prepare(SPLITS)
    data.prepare(SPLITS)
    assert data.caveats == ["leaky"]
    said = capsys.readouterr().err
    assert re.search(f"WARNING: leaky: data=chen2018: .*{words}", said)
    assert said.count("WARNING") == 1


def test_both_leaks_are_said(root, leaks, capsys):
    words = [leaks("near"), leaks("pixels"), leaks("patient")]
    data = module(root, allow_leakage=True).prepare(SPLITS)
    assert data.caveats == ["leaky"]
    assert capsys.readouterr().err.count("WARNING: leaky") == 2 == len(words) - 1  # files in one line, patients in one


def test_duplicates_within_a_split_and_in_a_split_that_is_not_opened_do_not_stop(root, pair, tmp_path, monkeypatch):
    monkeypatch.setenv("KOA_CACHE", str(tmp_path / "cache"))
    first, _ = pair
    for split in ("train", "test"):
        sorted((root / split).rglob("*.png"))[7].write_bytes(first.read_bytes())
    assert module(root).prepare(SPLITS).caveats == []
    assert module(root).prepare(("test",)).caveats == []


def test_repaired_knees_are_said_and_written_to_the_manifest(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(polarity, "inverted", lambda images: images[:, 100, 100] > 128)
    file = tmp_path / "manifest.parquet"
    data = module(root, preprocessing=Preprocessing(SIZE, fix_polarity=True)).prepare(SPLITS, file)
    rows = pd.read_parquet(file)
    n = int(rows["repaired"].sum())
    assert 0 < n < len(rows)
    assert f"{n} of 40 images were inverted (bone dark) and have been repaired" in capsys.readouterr().err
    assert data.tables["val"]["repaired"].equals(rows.loc[rows["split"] == "val", "repaired"].reset_index(drop=True))
    module(root).prepare(SPLITS, file)
    assert "repaired" not in pd.read_parquet(file)


def test_a_patient_in_two_official_splits_is_named(root):
    (root / "train" / "0" / "9000000L.png").rename(root / "val" / "0" / "9000000L.png")
    refuses(r"1 patient\(s\) in two splits: 9000000; keep all knees", module(root))


def damage(root):
    files = sorted(root.glob("train/2/*"))[:3]
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:150])
    files[2].unlink()
    files[2].mkdir()  # cannot even be hashed
    return files


def test_unreadable_images_stop_and_are_named(root):
    empty, cut, folder = damage(root)
    rows = mf.make(rows_of_chen2018(str(root)), "x")
    missing = pd.DataFrame({"path": [str(folder)], "grade": [2], "patient": ["9000009"], "split": ["train"]})
    rows = mf.make(pd.concat([rows, missing], ignore_index=True), "x")
    data = module(root, lambda _: rows)
    with pytest.raises(InputError) as caught:
        data.prepare(SPLITS)
    for file in (empty, cut, folder):
        assert str(file) in str(caught.value)
    assert str(caught.value).startswith("3 image(s) cannot be read: ")
    assert str(caught.value).endswith("repair them, or type data.on_unreadable=skip")
    assert data.caveats == []


def test_many_unreadable_images_are_counted(root):
    for file in root.glob("train/*/*"):
        file.write_bytes(b"no image" + file.name.encode())
    refuses(r"20 image\(s\) cannot be read: .*; and 17 more; repair them", module(root))


def test_unreadable_images_can_be_skipped(root, capsys):
    whole = module(root).prepare(SPLITS)
    damage(root)  # the folder is no file, so it is not listed
    skipping = module(root, on_unreadable="skip").prepare(SPLITS)
    assert skipping.counts == {"train": [4, 4, 1, 4, 4], "val": [4] * 5}
    assert skipping.caveats == ["2 unreadable images skipped"]
    assert "WARNING: 2 image(s) skipped: " in capsys.readouterr().err
    assert skipping.fingerprint != whole.fingerprint
    batch = skipping.datasets["train"].__getitems__(list(range(17)))
    assert batch["image"].flatten(1).any(1).all()  # none is black


def test_skipping_must_leave_every_grade(root):
    for file in root.glob("val/1/*"):
        file.write_bytes(b"")
    refuses("the val split has no knee of grade 1", module(root, on_unreadable="skip"))
    for file in root.glob("val/*/*"):
        file.write_bytes(b"")
    refuses("no knee in the val split", module(root, on_unreadable="skip"), ("val",))


# --- marks


def test_marks_are_given_once(root, capsys):
    next(root.glob("train/0/*")).write_bytes(b"")
    rows = as_folder(root).assign(patient="")
    data = module(root, lambda _: rows, name="folder", split="stratified", on_unreadable="skip")
    for _ in range(2):
        data.prepare(("train", "val", "test"))
    assert data.caveats == ["patients unknown", "1 unreadable images skipped"]
    assert capsys.readouterr().err.count("WARNING: data=folder: patients are unknown") == 1


def test_phantoms_are_marked(tmp_path):
    data = KneeDataModule(
        lambda: rows_of_phantom(40, 0), name="phantom", preprocessing=Preprocessing(32), batch_size=4,
        split="stratified", cache_dir=str(tmp_path), quiet=True,
    ).prepare(SPLITS)  # fmt: skip
    assert data.caveats == ["phantom data"]
    assert module(chen(tmp_path / "chen")).caveats == []


# --- splits, tables, fingerprint, memory


def test_the_table_is_in_the_order_of_the_batches(root):
    data = module(root, eval_batch_size=7).prepare(SPLITS)
    batches = list(data.val_dataloader())
    assert [len(batch["image"]) for batch in batches] == [7, 7, 6]
    merged = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    knees = data.tables["val"]
    assert merged["index"].tolist() == list(range(20))
    assert merged["grade"].tolist() == knees["grade"].tolist() == [int(Path(p).parts[-2]) for p in knees["path"]]
    for image, path in zip(merged["image"], knees["path"], strict=True):
        assert np.array_equal(image[0], np.asarray(Image.open(path)))


def test_training_batches_are_the_images_of_their_rows(root):
    data = module(root).prepare(("train",))
    seen = []
    for batch in data.train_dataloader():
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].shape == (4, 1, SIZE, SIZE)
        assert batch["grade"].dtype == batch["index"].dtype == torch.int64
        for image, grade, row in zip(batch["image"], batch["grade"], batch["index"], strict=True):
            knee = data.tables["train"].iloc[int(row)]
            assert np.array_equal(image[0], np.asarray(Image.open(knee["path"])))
            assert int(grade) == knee["grade"]
            seen.append(int(row))
    assert sorted(seen) == list(range(20))


def test_the_rows_of_each_split_are_in_the_order_of_its_data_set(root):
    data = module(root).prepare(("train", "val"))
    train, val = data.rows_of(("train", "val"))
    assert train["grade"].tolist() == data.datasets["train"].grades.tolist()
    assert val["path"].tolist() == data.tables["val"]["path"].tolist()
    for image, path in zip(data.datasets["train"].__getitems__(range(len(train)))["image"], train["path"], strict=True):
        assert np.array_equal(image[0], np.asarray(Image.open(path)))


def test_batches_may_be_written_to(root):
    data = module(root).prepare(SPLITS)
    batch = data.datasets["val"].__getitems__([0, 0, 1])
    batch["image"].zero_()
    batch["grade"].fill_(9)
    again = data.datasets["val"].__getitems__([0])
    assert again["image"].any()
    assert again["grade"].tolist() == [data.tables["val"]["grade"][0]]
    assert data.datasets["val"][1]["index"].tolist() == [1]


def test_counts_and_manifest_file(root, tmp_path):
    data = module(root).prepare(SPLITS, tmp_path / "manifest.parquet")
    assert data.counts == {"train": [4] * 5, "val": [4] * 5}
    rows = pd.read_parquet(tmp_path / "manifest.parquet")
    assert set(rows["split"]) == {"train", "val"}
    assert mf.fingerprint(rows, SPLITS) == data.fingerprint
    assert rows["hash"].str.len().eq(32).all()


def test_the_fingerprint_does_not_depend_on_where_the_files_lie(root, tmp_path):
    before = module(root).prepare(SPLITS).fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    data = module(moved).prepare(SPLITS)
    assert data.fingerprint == before
    Image.fromarray(knee(999)).save(next(moved.glob("val/0/*")))
    assert module(moved).prepare(SPLITS).fingerprint != before


@pytest.mark.slow
def test_only_arrays_of_the_train_split_stay(root):
    held = []

    def source(path):
        held.append(rows_of_chen2018(path))
        return held[-1]

    data = module(root, source).prepare(SPLITS)
    assert set(data.tables) == {"val"}
    assert len(data.tables["val"]) == 20
    reference = weakref.ref(held.pop())
    gc.collect()
    assert reference() is None
    frames = [thing for thing in gc.get_objects() if type(thing) is pd.DataFrame and "hash" in thing.columns]
    assert all(set(frame["split"]) <= {"val"} for frame in frames if str(root) in str(frame["path"].iloc[0]))
    train = data.datasets["train"]
    assert train.rows.nbytes + train.grades.nbytes <= 9 * len(train)
    assert len(pickle.dumps(train.rows)) + len(pickle.dumps(train.grades)) < 1000


def test_the_cache_is_built_once_for_both_splits(root, monkeypatch):
    first = module(root).prepare(SPLITS)
    monkeypatch.setattr(cache, "_build", None)
    second = module(root).prepare(SPLITS)
    assert np.array_equal(first.datasets["val"].images, second.datasets["val"].images)
    assert first.datasets["train"].images is first.datasets["val"].images


# --- the order of batches


def test_the_data_module_balances_where_it_should(root):
    rows = rows_of_chen2018(str(root))
    rows = rows[(rows["grade"] == 0) | ~rows.duplicated(["grade", "split"])].reset_index(drop=True)  # 4 of 0, 1 of each
    drawn = Counter()
    data = module(root, lambda _: rows, sampler="balanced", batch_size=1).prepare(("train",))
    loader = data.train_dataloader()
    for epoch in range(60):
        loader.sampler.set_epoch(epoch)
        drawn.update(int(batch["grade"]) for batch in loader)
    shares = [n / drawn.total() for n in drawn.values()]
    assert min(shares) > 0.12 and max(shares) < 0.28


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(4, [4] * 5), (6, [6] * 3), (19, [19]), (20, [20]), (21, [20]), (500, [20])]
)
def test_a_last_batch_that_is_not_full_is_omitted_if_there_is_another(root, batch_size, sizes):
    data = module(root, batch_size=batch_size).prepare(("train",))
    loader = data.train_dataloader()
    assert [len(batch["image"]) for batch in loader] == sizes
    assert len(loader) == data.steps_per_epoch == len(sizes)
    assert len(data.eval_dataloader("train")) == -(-20 // (2 * batch_size))


class Rows(L.LightningModule):
    """Notes which rows it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch, _):
        self.seen.setdefault(self.current_epoch, []).extend(batch["index"].tolist())
        return self.weight * 1.0


def test_lightning_sets_the_epoch_also_of_a_resumed_run(root, tmp_path):
    def fit(epochs, ckpt=None):
        rows = Rows()
        trainer = L.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(rows, module(root, seed=3).prepare(("train",)), ckpt_path=ckpt)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return rows.seen

    whole, resumed = fit(3), {**fit(1), **fit(3, tmp_path / "1.ckpt")}
    assert whole == resumed
    assert whole[0] != whole[1]


# --- the configs


def test_a_split_knows_the_shapes_that_its_images_had(root):
    wide = sorted(root.glob("val/*/*.png"))[3]
    Image.fromarray(knee(1)[:10]).save(wide)
    data = module(root).prepare(SPLITS)
    shapes = dict(zip(data.tables["val"]["path"], data.datasets["val"].shapes.tolist(), strict=True))
    assert shapes.pop(str(wide)) == [10, SIZE]
    assert set(map(tuple, shapes.values())) == {(SIZE, SIZE)}


def test_a_fraction_of_the_train_split_is_said_and_marked(root, capsys):
    whole = module(root).prepare(SPLITS)
    half = module(root, fraction=0.5).prepare(SPLITS)
    assert len(half.datasets["train"]) == len(whole.datasets["train"]) / 2
    assert len(half.datasets["val"]) == len(whole.datasets["val"])
    assert half.caveats == ["50 % of the train split"]
    assert (
        "WARNING: data.fraction=0.5: training uses 50 % of the train split's patients, 10 knees"
        in capsys.readouterr().err
    )
    assert half.fingerprint != whole.fingerprint
    val = module(root, fraction=0.5).prepare(("val",))  # as eval does
    assert val.caveats == []
