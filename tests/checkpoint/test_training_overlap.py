"""Which knees an ensemble may be evaluated on, by data modules alone: nothing is trained, no image is drawn."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from koa_lightning.checkpoint import training_overlap
from koa_lightning.config.compose import compose, plain, without_targets
from koa_lightning.data import manifest as mf
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.evaluation.settings import Settings
from koa_lightning.reporting import provenance

pytestmark = pytest.mark.usefixtures("blank_figures")

NAMES = ["a", "b"]
N = 20  # patients of two knees


def like_chen():
    """Return the layout of Chen 2018: the last five patients are the test split, and `auto_test` once more."""
    split = np.repeat(["train", "val", "test"], [20, 10, 10])
    knees = pd.DataFrame({"patient": [f"{knee // 2:02d}" for knee in range(2 * N)], "split": split})
    knees["grade"] = np.arange(2 * N) % 5
    crops = knees[split == "test"].assign(split=mf.AUTO_TEST)
    rows = pd.concat([knees, crops], ignore_index=True)
    return mf.make(rows.assign(path=[f"{mf.PHANTOM}{row}" for row in range(len(rows))]), "data=chen2018")


def modules(*each, **options):
    """Return a data module for each of these settings, with more for all."""
    usual = {"name": "chen2018", "preprocessing": Preprocessing(16), "batch_size": 4, **options}
    return [KneeDataModule(like_chen, **usual, **own) for own in each]


def computed(split, members):
    return training_overlap.of_their_own(split, members, NAMES[: len(members)])


def trained_on(module):
    rows = module.manifest()
    return rows[rows["split"] == "train"]


# --- the members' own data


def test_auto_test_is_refused_as_for_one_checkpoint_where_its_patients_were_trained_on():
    with pytest.raises(InputError) as alone:
        modules({}, split="stratified")[0].rows((mf.AUTO_TEST,))
    with pytest.raises(InputError, match=r"patient\(s\) in two splits") as together:
        computed(mf.AUTO_TEST, modules({}, {}, split="stratified"))
    assert str(together.value) == str(alone.value)


def test_a_leak_that_is_allowed_leaves_out_the_patients_that_were_trained_on():
    members = modules({"split_seed": 0}, {"split_seed": 1}, split="stratified", allow_leakage=True)
    knees = computed(mf.AUTO_TEST, members)
    assert 0 < len(knees.rows) < 10
    for member, allowed in zip(members, knees.allowed, strict=True):
        assert (knees.rows["patient"].isin(trained_on(member)["patient"]) == ~allowed).all()
        assert "leaky" in member.caveats


def test_auto_test_by_the_official_splits_is_measured_by_all():
    knees = computed(mf.AUTO_TEST, modules({}, {}))
    assert knees.said == "2 members, none trained on any of the 10 knees"
    assert knees.allowed.all()


@pytest.mark.parametrize("split", ["val", "train", "all"])
def test_folds_of_a_share_of_the_patients_are_measured_on_what_each_did_not_see(split):
    members = modules({"fold": 0}, {"fold": 1}, folds=2, fraction=0.5)
    knees = computed(split, members)
    for member, allowed in zip(members, knees.allowed, strict=True):
        assert (knees.rows["path"].isin(trained_on(member)["path"]) == ~allowed).all()
    trained = pd.concat(map(trained_on, members))["path"]
    assert set(knees.rows["path"]) >= set(trained)
    assert len(knees.rows) == {"val": 30, "train": len(trained), "all": 40}[split]
    assert knees.allowed.any(axis=0).all() and len(trained) < 30


# --- other data


@pytest.fixture
def stratified():
    """A checkpoint of the same knees in new splits, and what it was trained on."""
    [module] = modules({}, split="stratified")
    rows = module.manifest()
    seen = mf.add_hashes(rows, mf.SPLITS)
    return read_of("data=chen2018", "data.root=there"), seen[seen["split"].isin(["train", "val"])]


def read_of(*overrides):
    data = compose("train", list(overrides)).data
    record = SimpleNamespace(data=SimpleNamespace(name=data.name), data_settings=without_targets(plain(data)), name="x")
    return SimpleNamespace(record=record)


def given(*overrides):
    return Settings.of(compose("eval", ["ckpt=x", *overrides])).given


def test_of_chen_2018_split_otherwise_the_patients_that_were_trained_on_are_omitted(stratified, monkeypatch):
    """A crop of `auto_test` has no file in common with the train split."""
    read, seen = stratified
    monkeypatch.setattr(training_overlap, "seen_in_training", lambda read: seen)
    elsewhere = given("data=chen2018", "data.root=elsewhere")
    knees = training_overlap.of_other_data(mf.AUTO_TEST, elsewhere, modules({}, {}), [read, read], NAMES)
    patients = set(seen.loc[seen["split"] == "train", "patient"])
    assert 0 < len(knees.rows) < 10
    assert not set(knees.rows["patient"]) & patients


def test_the_evaluation_of_one_checkpoint_counts_them(stratified, monkeypatch):
    read, seen = stratified
    monkeypatch.setattr(training_overlap, "seen_in_training", lambda read: seen)
    monkeypatch.setattr(provenance, "of_model", lambda read, label: {})
    monkeypatch.setattr(provenance, "describe", lambda **about: about["data"])
    [module] = modules({})
    crops = mf.add_hashes(module.rows((mf.AUTO_TEST,)), (mf.AUTO_TEST,))
    module.tables[mf.AUTO_TEST] = crops
    run = SimpleNamespace(run_id="", uri="")
    about = provenance.of_checkpoint(read, module, mf.AUTO_TEST, given("data=chen2018", "data.root=r"), [], {}, run)
    assert about["n_trained_on"] == crops["patient"].isin(seen.loc[seen["split"] == "train", "patient"]).sum() > 0


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("trained", "other", "alike"),
    [
        (["data=folder", "data.root=a"], [], True),
        (["data=folder", "data.root=a"], ["data=folder", "data.root=a", "data.split_seed=3"], True),
        (["data=folder", "data.root=a"], ["data=folder", "data.root=b"], False),
        (["data=folder", "data.root=a"], ["data=chen2018", "data.root=a"], False),
        (["data=chen2018", "data.root=a"], ["data=chen2018", "data.root=b"], True),
        (["data=phantom"], ["data=phantom", "data.source.seed=1"], False),
    ],
)
def test_equal_names_are_one_patient_in_one_source(trained, other, alike):
    assert training_overlap.names_alike(given(*other), read_of(*trained)) is alike
