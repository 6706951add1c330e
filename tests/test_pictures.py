"""From training to report and prediction with nothing replaced: every figure is drawn, and looked at."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from koa_lightning.config.compose import compose
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.predict import predict
from koa_lightning.evaluation.report import report
from koa_lightning.training.run import train

pytestmark = pytest.mark.slow

# Pixels at 150 dpi: width and height of figures whose size does not depend on the data.
SIZES = {
    "confusion_matrix": (990, 930),
    "learning_curves": (1320, 975),
    "precision_recall": (690, 675),
    "reliability": (660, 1260),
    "risk_coverage": (900, 690),
    "roc": (690, 675),
}
PANEL = 1995  # pixels in width of a panel of heat maps; a row is about 367 high
FIGURES = {
    "run/figures": {"confusion_matrix", "gradcam", "learning_curves", "reliability", "risk_coverage"},
    "eval": {
        "confusion_matrix", "gradcam", "reliability", "risk_coverage", "panel_by_grade", "panel_by_mistake",
        "panel_least_certain", "panel_most_certain",
    },
    "report/figures": {"confusion_matrix", "precision_recall", "reliability", "risk_coverage", "roc", "subgroups"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory, knees, tiny):
    """The folders of a training, its evaluation, its report, and a prediction of the phantoms of grade 3."""
    place = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOA_CACHE", str(place / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.chdir(place)
        best = train(tiny.config("out=run", "tracking=none"))["checkpoint"]
        quiet = ["quiet=true", "tracking=none"]
        evaluate(compose("eval", [f"ckpt={best}", "out=eval", "report=false", *quiet]))
        report(compose("report", ["ckpt=eval", "out=report"]))
        predict(compose("predict", [f"ckpt={best}", f"input='{knees}/3'", "out=predict", "quiet=true"]))
    return SimpleNamespace(place=place, knees=sorted((knees / "3").glob("*.png")))


def look(file):
    """Return a picture's width and height, its gray values, and those of its bottom, where marks are printed."""
    with Image.open(file) as picture:
        gray = np.asarray(picture.convert("L"))
        colours = np.asarray(picture.convert("RGB")).astype(int)
    bottom = colours[-gray.shape[0] // 6 :]
    is_red = (bottom[..., 0] > bottom[..., 1] + 80) & (bottom[..., 0] > bottom[..., 2] + 80)
    return SimpleNamespace(size=gray.shape[::-1], gray=gray, red=int(is_red.sum()))


@pytest.mark.parametrize("folder", FIGURES)
def test_every_figure_is_drawn_at_its_size_with_its_marks(folder, made):
    files = {file.stem: file for file in (made.place / folder).glob("*.png")}
    assert set(files) == FIGURES[folder]
    for name, file in files.items():
        seen = look(file)
        assert len(np.unique(seen.gray)) > 100, name
        assert seen.gray.std() > 20, name
        assert 0.03 < (seen.gray < 250).mean() < 0.9, name  # neither empty nor black
        assert (seen.gray[:, :3] > 250).all() and (seen.gray[:3] > 250).all(), name  # nothing runs over the edge
        assert seen.red > 200, name  # phantom data, no pretrained weights
        if name in SIZES:
            assert seen.size == SIZES[name], name
        elif name != "subgroups":
            assert seen.size[0] == PANEL and 300 < seen.size[1] < 3000, name


def test_the_report_has_each_figure_as_lines_too(made):
    for name in FIGURES["report/figures"]:
        text = (made.place / "report" / "figures" / f"{name}.svg").read_text()
        assert text.count("<path") > 30, name


def test_the_page_holds_its_pictures(made):
    page = (made.place / "report" / "report.html").read_text()
    addresses = re.findall(r'<img[^>]*src="(data:image/[^;]+;base64,[^"]{200,})"', page)
    assert len(addresses) >= len(FIGURES["report/figures"]) + 5  # and panels, and the worst mistakes
    assert not re.search(r'src="(?!data:)', page)


def test_a_prediction_has_a_picture_of_each_knee_with_heat_on_it(made):
    overlays = sorted((made.place / "predict" / "overlays").iterdir())
    assert len(overlays) == len(made.knees)
    for overlay, knee in zip(overlays, made.knees, strict=True):
        assert overlay.name.startswith(knee.stem)
        with Image.open(overlay) as picture, Image.open(knee) as plain:
            colours = np.asarray(picture.convert("RGB")).astype(int)
            width, height = plain.size
        assert colours.shape[1] == width and colours.shape[0] > height  # words below
        assert np.ptp(colours[:height], axis=2).max() > 60  # heat is in colour
        assert colours[height:].std() > 10
