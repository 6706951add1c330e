"""A grader so small that a test can train it, a store that is ready, and a small run in it."""

import functools
import os

# Before torch is imported: the tests run in several processes, whose threads would wait for each other, computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from mlflow.entities import Metric, Param
from PIL import Image

import koa_lightning
from koa_lightning import schedules
from koa_lightning.augment import KneeAugment
from koa_lightning.callbacks import Checkpoints, History
from koa_lightning.checkpoint import RECORD
from koa_lightning.config import compose
from koa_lightning.data.cache import Preprocessing, decode_phantoms
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.data.phantom import phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.models.grader import KneeGrader
from koa_lightning.models.net import NetSpec, build
from koa_lightning.reports import figures
from koa_lightning.speed import Plan
from koa_lightning.tracking import postgres as postgres_server
from koa_lightning.tracking.store import open_store

# The same examples each time, and no test fails because the machine is busy.
settings.register_profile("koa", deadline=None, derandomize=True)
settings.load_profile("koa")


DRAWN_FOR_REAL = {"reports", "explain", "trust"}  # folders of tests whose subject is what a figure shows


@pytest.fixture(autouse=True, scope="session")
def figures_are_drawn():
    """Figures are made, and their files are blank: laying them out took a third of the time of the tests that train.

    Returns the switch: `real` is True where the pictures themselves are looked at.
    """
    switch, save = SimpleNamespace(real=False), figures.save

    def blank(figure, path):
        if switch.real:
            return save(figure, path)
        figure.savefig = lambda file, **_: Image.new("L", (8, 8), 255).save(file, "PNG")
        return save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", blank)
        yield switch


@pytest.fixture(autouse=True)
def _which_figures(request, figures_are_drawn):
    inside = request.path.relative_to(Path(__file__).parent).parts[0]
    figures_are_drawn.real = inside in DRAWN_FOR_REAL or request.node.get_closest_marker("pictures") is not None
    yield
    figures_are_drawn.real = False


@pytest.fixture(scope="session")
def tiny_record():
    """What a checkpoint of the tiny grader carries."""

    def make(spec=None):
        return {
            "format": 1,
            "version": "0.0.0",
            "net": (spec or NetSpec("test_efficientnet")).to_dict(),
            "preprocessing": {"image_size": 32, "fit": "letterbox", "canonical_side": None},
            "grade_names": ["none", "doubtful", "minimal", "moderate", "severe"],
            "config": {"data": {"name": "phantom", "batch_size": 4, "image_size": 32}},
            "data": {"name": "phantom", "fingerprint": "abc", "counts": {"train": [4, 4, 4, 4, 4]}},
            "marks": ["phantom data"],
            "weights": "none",
            "plan": {"precision": "fp32", "channels_last": True, "reason": "as configured"},
            "tracking": {},
        }

    return make


@pytest.fixture(scope="session")
def tiny_data():
    """Noise whose brightness tells the grade; 20 knees to train on and 10 to validate on, 32 pixels."""

    def make(n_train=20, batch_size=4, seed=0):
        data = KneeDataModule(
            lambda: None, name="noise", preprocessing=Preprocessing(32), batch_size=batch_size, seed=seed, quiet=True
        )
        rng = np.random.default_rng(0)
        for part, n in (("train", n_train), ("val", 10)):
            grades = np.arange(n) % 5
            images = rng.integers(0, 120, (n, 32, 32)) + 30 * grades[:, None, None]
            data.datasets[part] = KneeDataset(images.astype(np.uint8), np.arange(n), grades)
        return data

    return make


@pytest.fixture(scope="session")
def tiny_grader(tiny_record):
    """A grader on a network of 0.4 million parameters with depthwise convolutions and every kind of randomness."""

    def make(
        spec=None, *, scheduler=schedules.one_cycle, optimizer=torch.optim.AdamW, lr=1e-3, head_lr=None,
        head_only_epochs=0, total_steps=20, monitor="val/quadratic_kappa", mode="max", seed=0, loss=None, plan=None,
        augment=None, weight_decay=0.01, **more,
    ):  # fmt: skip
        spec = spec or NetSpec("test_efficientnet", drop_rate=0.3, drop_path_rate=0.2)
        torch.manual_seed(seed)
        return KneeGrader(
            (plan or Plan("fp32", True, "")).prepare(build(spec)),
            loss or CrossEntropy(),
            augment or KneeAugment(flip=0.5, rotation=10, noise=0.05, erasing=0.5),
            optimizer=functools.partial(optimizer, lr=lr),
            scheduler=scheduler,
            lr=lr,
            head_lr=head_lr,
            weight_decay=weight_decay,
            head_only_epochs=head_only_epochs,
            total_steps=total_steps,
            monitor=monitor,
            mode=mode,
            seed=seed,
            record=tiny_record(spec),
            **more,
        )

    return make


@pytest.fixture(scope="session")
def tiny_trainer():
    """A trainer with History and Checkpoints as `koa_lightning.train` sets it up."""

    def make(folder, *before, max_epochs=4, monitor="val/quadratic_kappa", mode="max", **options):
        folder.mkdir(parents=True, exist_ok=True)
        return L.Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            callbacks=[*before, History(folder / "history.csv"), Checkpoints(folder, monitor, mode)],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            **{"gradient_clip_val": 1.0, **options},
        )

    return make


@pytest.fixture(scope="session")
def ready_database(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # one for all workers; open_store lets the others wait
    open_store(f"sqlite:///{base}/ready/mlflow.db", base)
    return base / "ready" / "mlflow.db"


@pytest.fixture
def with_package():
    """The environment of a process that imports the package as this one does."""
    return os.environ | {"PYTHONPATH": str(Path(koa_lightning.__file__).parents[1])}


@pytest.fixture
def store(ready_database, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "with space" / "mlruns"
    folder.mkdir(parents=True)
    shutil.copy(ready_database, folder)
    return open_store(None, folder)


@pytest.fixture(scope="session")
def write_checkpoint(tiny_record):
    """Write a checkpoint of an untrained network; returns the file."""

    def write(file, seed=0, **record):
        torch.manual_seed(seed)
        content = {**tiny_record(), **record}
        state = {f"net.{key}": value for key, value in build(NetSpec(**content["net"])).state_dict().items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({RECORD: content, "state_dict": state, "epoch": 2, "global_step": 9}, file)
        return file

    return write


@pytest.fixture(scope="session")
def made_study():
    """Make a study of Optuna as the sweeper leaves it: choices, a log scale, a key used by some trials, one constant.

    Of the trials 3, 13, ... fail, 5, 15, ... were interrupted, and 2, 6, 10, ... are pruned.
    """
    import optuna

    choice, real = optuna.distributions.CategoricalDistribution, optuna.distributions.FloatDistribution
    space = {
        "model": choice(["efflite0", "effb0", "effb3"]),
        "loss": choice(["ce", "focal"]),
        "optimizer.lr": real(1e-5, 1e-2, log=True),
        "augment.rotation": real(0.0, 20.0),
        "loss.gamma": real(0.5, 4.0),
        "trainer.max_epochs": optuna.distributions.IntDistribution(5, 5),
    }
    words = {3: "diverged", 13: "out_of_memory", 23: "error"}

    def trial(number, metrics, repeats, rng):
        params = {"model": space["model"].choices[rng.integers(3)], "loss": space["loss"].choices[rng.integers(2)]}
        params |= {"optimizer.lr": float(10 ** rng.uniform(-5, -2)), "augment.rotation": float(rng.uniform(0, 20))}
        if params["loss"] == "focal":
            params["loss.gamma"] = float(rng.uniform(0.5, 4))
        params["trainer.max_epochs"] = 5
        good = 0.7 - 0.12 * (np.log10(params["optimizer.lr"]) + 3.3) ** 2 + 0.05 * (params["model"] == "effb3")
        each = [[good + rng.normal(0, 0.02), 0.05 + 0.1 * rng.random(), 90 * rng.random()] for _ in range(repeats)]
        values = [row[: len(metrics)] if len(metrics) > 1 else row[0] for row in each]
        decided = np.mean(np.reshape(values, (repeats, -1)), axis=0).tolist()
        curve = {epoch: decided[0] * (1 - 0.6 ** (epoch + 1)) + float(rng.normal(0, 0.01)) for epoch in range(5)}
        attrs = {
            "overrides": ["data=phantom", *(f"{key}={value}" for key, value in params.items())],
            "run_ids": [f"{number:032x}"], "values": values, "seconds": 60.0 + number, "marks": ["phantom data"],
        }  # fmt: skip
        state = "COMPLETE"
        if number % 10 == 3:
            state, kind, curve = "FAIL", words.get(number, "error"), {}
            attrs |= {"error_kind": kind, "error": f"it was [bold]number {number}[/]"}
        elif number % 10 == 5:
            state, curve = "FAIL", {0: curve[0]}
            attrs |= {"interrupted": True}
        elif number % 4 == 2:
            state, curve = "PRUNED", {0: curve[0] - 0.1, 1: curve[1] - 0.2}
        if state != "COMPLETE":
            attrs |= {"values": [], "run_ids": []}
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            values=decided if state == "COMPLETE" else None,
            params=params,
            distributions={key: space[key] for key in params},
            user_attrs=attrs,
            intermediate_values=curve,
        )

    def make(n=30, *, name="tpe", storage=None, metrics=("val/quadratic_kappa",), repeats=1, seed=0, parent=""):
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=["maximize", "minimize", "minimize"][: len(metrics)],
        )
        facts = {
            "metrics": list(metrics), "space": dict.fromkeys(space, "typed"), "fixed": ["data=phantom"],
            "command": "python -m koa_lightning.train -m sweep=tpe", "parent_run": parent, "tracking_uri": "",
            "trials": n,
        }  # fmt: skip
        for key, value in facts.items():
            study.set_user_attr(f"koa_{key}", value)
        rng = np.random.default_rng(seed)
        study.add_trials([trial(number, metrics, repeats, rng) for number in range(n)])
        return study

    return make


TINY = [
    "data.source.n_patients=40", "data.image_size=64", "data.batch_size=8", "model=resnet18", "model.weights=none",
    "model.name=test_efficientnet", "trainer=cpu", "trainer.precision=fp32", "trainer.max_epochs=2",
    "optimizer.lr=3e-3", "explain.n_worst=1", "quiet=true",
]  # fmt: skip


@pytest.fixture
def alone(tmp_path_factory, monkeypatch):
    """Let nothing outside of the tests be read or written: no network, a cache of their own, no user's store."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("KOA_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def place(alone, ready_database, tmp_path, monkeypatch):
    """An empty working directory with a ready store."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(ready_database, tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def log_run(place):
    """Write a run into the store of the working directory, as a training leaves one; returns its id."""
    store = open_store(None, place / "mlruns")
    client = store.client()

    def log(name, *, params=(), tags=(), metrics=(), checkpoint=None, parent=None, status="FINISHED", texts=()):
        own = {"mlflow.parentRunId": parent} if parent else {}
        experiment = store.experiment_id("koa-lightning")
        run_id = client.create_run(experiment, tags={**dict(tags), **own}, run_name=name).info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in dict(params).items()])
        points = [
            Metric(key, value, 0, epoch)
            for key, values in dict(metrics).items()
            for epoch, value in enumerate(values if isinstance(values, list) else [values])
        ]
        client.log_batch(run_id, metrics=points)
        for file, text in dict(texts).items():
            client.log_text(run_id, text, file)
        if checkpoint:
            client.log_artifact(run_id, str(checkpoint), "checkpoints")
        client.set_terminated(run_id, status) if status != "RUNNING" else None
        return run_id

    log.client = client
    return log


@pytest.fixture(scope="session")
def tiny():
    """The overrides of a run of two epochs on 56 phantoms, and its config with more overrides."""
    return SimpleNamespace(overrides=TINY, config=lambda *more: compose("train", [*TINY, *more]))


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, ready_database, tiny):
    """A finished run, tracked; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mlruns").mkdir()
    shutil.copy(ready_database, folder / "mlruns")
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.getbasetemp()
        patch.setenv("KOA_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        from koa_lightning.train import train

        result = train(tiny.config("out=run", "trainer.max_epochs=3"))
    return SimpleNamespace(place=folder, out=folder / "run", result=result, best=folder / "run/checkpoints/best.ckpt")


@pytest.fixture
def trained(trained_once, alone, tmp_path, monkeypatch):
    """That run, seen from another folder."""
    monkeypatch.chdir(tmp_path)
    return trained_once


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server on the loopback address, for all tests of a process."""
    # Not in pytest's folder: root's is closed to the user that the server then runs as.
    with tempfile.TemporaryDirectory(prefix="koa-postgres-") as folder:
        try:
            cluster = postgres_server.make(Path(folder))
            cluster.start()
        except InputError as reason:
            pytest.skip(str(reason))
        yield cluster
        cluster.stop("immediate")


@pytest.fixture
def postgres_url(postgres):
    """The address (postgresql+psycopg://...) of a new, empty database."""
    return postgres.create(f"koa_{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def knees(tmp_path_factory):
    """A folder {0..4}/NAME with 80 phantoms of 40 patients; do not change it."""
    folder = tmp_path_factory.mktemp("knees")
    rows = phantom_manifest(40, 7, (0.3, 0.2, 0.2, 0.15, 0.15))
    for path, image in zip(rows["path"], decode_phantoms(rows["path"].tolist(), 64), strict=True):
        name, grade = path.rsplit("/", 1)[1].rsplit("-", 1)
        (folder / grade).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / grade / f"{name}.png")
    return folder


@pytest.fixture
def launch(monkeypatch, capsys):
    """Run an entry point as from the command line; returns code, lines of output and lines of errors."""

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["koa", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, out=out.splitlines(), err=err.splitlines())

    return run


@pytest.fixture
def write_dicom():
    """Write a radiograph of the pixels as DICOM; an element given as None is left out."""
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    def write(file, pixels, bits=None, compress=None, **elements):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(file)])
        ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
        ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        ds.BitsAllocated = 8 * pixels.itemsize
        ds.BitsStored = bits or ds.BitsAllocated
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            ds.PlanarConfiguration = 0
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
        for keyword, value in elements.items():
            if value is not None:
                setattr(ds, keyword, value)
            elif keyword in ds:
                delattr(ds, keyword)
        if compress:
            ds.compress(compress)
        file.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(file, enforce_file_format=True)
        return file

    return write


@pytest.fixture(scope="session")
def graded_table():
    """A predictions table: two knees a patient, alike in grade, graded with the sharpness given."""

    def make(n_patients=60, seed=0, sharpness=1.0, truth=0):
        rng = np.random.default_rng(truth)
        severity = rng.normal(2, 1.3, n_patients).repeat(2) + rng.normal(0, 0.5, 2 * n_patients)
        grade = severity.round().clip(0, 4).astype(int)
        rng = np.random.default_rng([seed, 7])
        logits = rng.normal(size=(2 * n_patients, 5)) - 0.7 * np.abs(np.arange(5) - grade[:, None])
        p = np.exp(sharpness * logits)
        p = (p / p.sum(1, keepdims=True)).astype(np.float32)
        names = [f"{knee // 2:04d}" for knee in range(2 * n_patients)]
        sides = ["LR"[knee % 2] for knee in range(2 * n_patients)]
        table = pd.DataFrame({"path": [f"/data/{a}{b}.png" for a, b in zip(names, sides, strict=True)]})
        table["patient"], table["side"] = names, sides
        table["grade"] = pd.array(grade, dtype="Int64")
        table["predicted"], table["expected_grade"] = p.argmax(1), p @ np.arange(5)
        table[[f"p{k}" for k in range(5)]] = p
        return table

    return make
