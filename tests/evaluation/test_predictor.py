import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from koa_lightning.checkpoint.reading import read
from koa_lightning.config.compose import choices_of, compose, plain, without_targets
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.evaluation import predict, referral
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.predictor import Predictor, load_model
from koa_lightning.explain.cam import asked, heat_maps
from koa_lightning.metrics import predictions
from koa_lightning.models.net import NetSpec
from koa_lightning.models.outputs import probabilities
from koa_lightning.reporting import panels

PLAIN = ["explain=none", "tracking=none", "report=false", "n_resamples=100", "quiet=true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven phantoms in {0..4}/NAME."""
    place = tmp_path_factory.mktemp("knees")
    rows = phantom_manifest(6, 3, (0.2,) * 5).iloc[:11]
    for path, image in zip(rows["path"], decode_phantoms(rows["path"].tolist(), 48), strict=True):
        name, grade = path.rsplit("/", 1)[1].rsplit("-", 1)
        (place / grade).mkdir(exist_ok=True)
        Image.fromarray(image).save(place / grade / f"{name}.png")
    return place


@pytest.fixture
def files(write_checkpoint, tmp_path):
    """Two checkpoints, of which the second is calibrated and mirrors knees to the right."""
    other = {"image_size": 32, "fit": "letterbox", "canonical_side": "R"}
    entry = {"method": "temperature", "parameters": {"temperature": 0.01 + 0.5}}
    return [
        write_checkpoint(tmp_path / "a" / "best.ckpt"),
        write_checkpoint(tmp_path / "b" / "best.ckpt", seed=1, preprocessing=other, calibration=entry),
    ]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "loss",  # one of each link here, the others in `make test-slow`
    [
        pytest.param(loss, marks=[] if loss in ("corn", "soft_ordinal") else pytest.mark.slow)
        for loss in choices_of("loss")
    ],
)
def test_eval_and_predict_give_a_knee_the_same_bytes(loss, folder, write_checkpoint, tmp_path, alone):
    cfg = compose("train", [f"loss={loss}", "data=phantom"])
    link = "corn" if loss == "corn" else "softmax"
    file = write_checkpoint(
        tmp_path / "best.ckpt",
        net=NetSpec("test_efficientnet", link=link).to_dict(),
        loss=str(cfg.loss._target_),
        config={"data": {"name": "phantom", "batch_size": 4}, "loss": without_targets(plain(cfg))["loss"]},
        calibration={"method": "ordinal", "parameters": {"scale": 1.5, "shift": 0.25}},
    )
    seen = []
    for tta, calibrated in (("none", True), ("none", False), ("flip", True), ("flip", False)):
        how = [f"tta={tta}", f"calibrated={str(calibrated).lower()}", f"ckpt='{file}'"]
        data = ["data=folder", f"data.root='{folder}'", "split=all", "batch_size=7"]
        evaluate(compose("eval", [*PLAIN, *how, *data, f"out='{tmp_path}/eval'"]))
        given = [f"input='{folder}'", "batch_size=3", "overlays=false", "quiet=true"]
        predict.predict(compose("predict", [*how, *given, f"out='{tmp_path}/predict'"]))
        tables = [pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("eval", "predict")]
        one, other = (table.sort_values("path")[predictions.PROBABILITIES].to_numpy() for table in tables)
        assert one.dtype == np.float32 and len(one) == 11
        assert one.tobytes() == other.tobytes(), (tta, calibrated)
        paths = sorted(tables[1]["path"])
        alone_ = load_model(file).predict(paths[4], flip=tta == "flip", calibrated=calibrated)
        assert alone_[predictions.PROBABILITIES].to_numpy().tobytes() == one[4].tobytes()
        seen.append(one.tobytes())
    assert len(set(seen)) == 4


def test_paths_arrays_and_pil_images(files, write_dicom, tmp_path):
    pixels = picture(60, 50)
    wide = np.linspace(0, 4095, 3000).reshape(60, 50).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "knee.png")
    write_dicom(tmp_path / "knee.dcm", wide, PatientID="12", ImageLaterality="R")
    images = [tmp_path / "knee.png", str(tmp_path / "knee.png"), pixels, Image.fromarray(pixels), wide,
              wide.astype(np.float32), tmp_path / "knee.dcm"]  # fmt: skip
    table = load_model(files[0]).predict(images, batch_size=2)
    assert list(table.columns) == [*predictions.COLUMNS, "name", *referral.COLUMNS]
    assert table["path"].tolist()[2:4] == ["image 2", "image 3"]
    assert table["side"].tolist() == [""] * 6 + ["R"]
    assert (table["patient"] == "").all()  # those of DICOM files stay in them
    p = table[predictions.PROBABILITIES].to_numpy()
    assert (p[:4] == p[0]).all() and (p[4] == p[5]).all() and (p[4] != p[0]).any()
    assert table["grade"].isna().all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((5, 60, 50, 3), np.uint8), r"image 0: uint8 \(60, 50, 3\); give a path"),
        ([np.zeros((60, 50), np.int64)], r"image 0: int64 \(60, 50\); give a path, a PIL image, or an array H x W"),
        ([5], "image 0: int; give a path"),
        (np.full((60, 50), np.nan), "image 0: has NaN"),
        (np.zeros((4, 50), np.uint8), "a side is under 8"),
        ("nowhere.png", "nowhere.png: no such file"),
        ([], "images: none given"),
    ],
)
def test_what_is_no_image(image, words, files):
    with pytest.raises(InputError, match=words):
        load_model(files[0]).predict(image)


def test_an_ensemble_averages_calibrated_probabilities(files):
    images = [picture(60, 50, seed) for seed in range(5)]
    grader = load_model(files)
    table = grader.predict(images, side="L", refer_below=0.9)
    own = [load_model(file).predict(images, side="L")[predictions.PROBABILITIES].to_numpy() for file in files]
    np.testing.assert_allclose(table[predictions.PROBABILITIES], np.mean(own, axis=0), atol=1e-7)
    assert (own[0] != own[1]).any()
    assert table["path"].tolist() == [f"image {row}" for row in range(5)]
    assert (table["members"] == 2).all() and (table["set"] == "").all() and (table["foreign"] == "").all()
    assert (table["refer"] == "refer to a reader: unsure").all()
    assert grader.caveats == ["phantom data"]


def test_calibrated_and_mirrored_images(files):
    [member] = load_model(files[1]).members
    pixels = picture(32, 32)
    for side, image in (("R", pixels), ("L", pixels[:, ::-1].copy())):
        table = Predictor([member]).predict(image, side=side, calibrated=False)
        graded = member.grade([{"image": torch.from_numpy(pixels)[None, None]}], calibrated=False)
        assert table[predictions.PROBABILITIES].to_numpy().tobytes() == graded.probabilities.numpy().tobytes()
        assert torch.equal(graded.probabilities, probabilities(graded.logits, "softmax"))


def test_grade_names_must_agree(files, write_checkpoint, tmp_path):
    odd = write_checkpoint(tmp_path / "odd.ckpt", grade_names=["a", "b", "c", "d", "e"])
    with pytest.raises(InputError, match="members of an ensemble must name the same grades"):
        load_model([files[0], odd])


def test_heat_maps_have_the_size_of_the_image(files):
    grader = load_model(files[0])
    images = [picture(90, 50), picture(40, 64, 1)]
    maps = grader.explain(images)
    assert [each.shape for each in maps] == [(90, 50), (40, 64)]
    for each in (*maps, grader.explain(images[0], method="layercam", target="expected")):
        assert each.dtype == np.float32 and each.min() >= 0 and each.max() <= 1
    square = picture(32, 32)
    member = grader.members[0]
    image = member.net.normalise(torch.from_numpy(square)[None, None])
    grade = grader.predict(square)["predicted"].tolist()
    np.testing.assert_allclose(grader.explain(square), heat_maps(member.net, image, grade)[0], atol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["test_vit", "test_mambaout"])
@pytest.mark.usefixtures("blank_figures")
def test_python_predict_and_panels_draw_the_same_maps_of_any_network(
    name, write_checkpoint, folder, tmp_path, monkeypatch
):
    net = NetSpec(name, image_size=48).to_dict()
    file = write_checkpoint(tmp_path / "best.ckpt", net=net, preprocessing={"image_size": 48})
    panels_, overlays = {}, {}
    draw, lay = panels.cam_panel, predict.overlay

    def panel(images, maps, *rest, **more):
        panels_.update({image.tobytes(): heat for image, heat in zip(images, maps, strict=True)})
        return draw(images, maps, *rest, **more)

    def overlay(image, heat):
        overlays[image.tobytes()] = heat
        return lay(image, heat)

    monkeypatch.setattr(panels, "cam_panel", panel)
    monkeypatch.setattr(predict, "overlay", overlay)
    cfg = compose("predict", [f"ckpt='{file}'", f"input='{folder}'", "quiet=true", f"out='{tmp_path}/out'"])
    predict.predict(cfg)
    grader = load_model(file)
    paths = sorted(map(str, folder.rglob("*.png")))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    dataset = KneeDataset(images, np.arange(len(paths)), np.arange(len(paths)) % 5)
    shares = torch.from_numpy(grader.predict(paths)[predictions.PROBABILITIES].to_numpy())
    net = grader.members[0].net
    panels.draw_panels(net, dataset, paths, shares, [], tmp_path, n_worst=2, maps=asked(cfg.explain, net))  # as eval
    pictures = {np.asarray(Image.open(path)).tobytes(): path for path in sorted(folder.rglob("*.png"))}
    assert len(panels_) > 3 and panels_.keys() <= overlays.keys() == pictures.keys()
    maps = dict(zip(pictures, grader.explain(list(pictures.values())), strict=True))
    assert any(heat.any() for heat in maps.values())
    for known in (panels_, overlays):
        for key, heat in known.items():
            np.testing.assert_allclose(heat, maps[key], atol=1e-4)


def test_a_mirrored_knee_is_explained_as_it_was_given(files):
    grader, pixels = load_model(files[1]), picture(32, 32)
    right, left = grader.explain(pixels, side="R"), grader.explain(pixels[:, ::-1].copy(), side="L")
    np.testing.assert_allclose(left, right[:, ::-1], atol=1e-6)
    both = load_model(files).explain(pixels, side="R")
    assert both.shape == (32, 32) and both.max() <= 1


def test_how_many_images_pass_at_once_is_always_the_same(files, monkeypatch):
    member = Member(read(files[0]))
    images = torch.randint(0, 256, (9, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = member.grade([{"image": images}])
    splits = member.grade([{"image": split} for split in images.split([1, 6, 2])])
    for one, other in ((whole.logits, splits.logits), (whole.features, splits.features)):
        assert torch.equal(one, other) and len(one) == 9
    flipped = member.grade([{"image": images}], flip=True)
    assert torch.equal(flipped.features, whole.features)  # of the images as they are
