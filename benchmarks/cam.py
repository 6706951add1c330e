"""Heat maps in closed form as `eval` computes them, against Grad-CAM of pytorch-grad-cam as its page shows it.

    python -m benchmarks.cam

Lite0 and B3 with random weights at 224 pixels, the same images and grades, fp32. The library runs in its usual set-up:
contiguous, the default allocator. Ours has the tuned allocator and channels_last, as `eval`. They are two processes
that take turns, one batch each; the ratio is the median of the ratios of neighbouring turns. A second row has the
library in our set-up too, which shows the gain of the closed form alone, and has no goal: `cam` costs one forward pass,
and the library one backward pass more, so no larger gain is possible. A third row gives the largest difference of any
pixel between the two, for maps scaled to 0-1.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.process import Stopwatch, in_own_process, in_turns
from koa_lightning.config import allocator

CASES = (("Lite0", "tf_efficientnet_lite0", 16), ("B3", "efficientnet_b3", 8))  # name, timm's name, batch
ROUNDS = 8
WARM_UP = 1
GOAL, MOST_DIFFERENT = 5.0, 1e-4


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}, and for the difference also lower=True."""
    return [row for case in CASES for row in _compare(*case)]


def _compare(name: str, model: str, batch: int) -> list[dict]:
    kinds = (("library", False), ("library", True), ("cam", True), ("gradcam", True))  # method, and whether as eval
    plain, tuned, cam, gradcam = in_turns(*(("benchmarks.cam:side", *kind, model, batch) for kind in kinds))
    plain_ms, tuned_ms, cam_ms, gradcam_ms = (
        1e3 * statistics.median(each[WARM_UP:]) / batch for each in (plain, tuned, cam, gradcam)
    )
    ratio, same, ours = (
        statistics.median(slow / fast for slow, fast in zip(theirs[WARM_UP:], own[WARM_UP:], strict=True))
        for theirs, own in ((plain, cam), (tuned, cam), (plain, gradcam))
    )
    detail = f"{plain_ms:.0f} ms, cam {cam_ms:.1f} ms per knee; our gradcam {gradcam_ms:.1f} ms ({ours:.1f} times)"
    in_ours = f"{tuned_ms:.0f} ms, cam {cam_ms:.1f} ms per knee"
    apart = in_own_process("benchmarks.cam:difference", model, batch)
    title = f"{name}, batch {batch}"
    return [
        {"name": f"cam {title}", "ratio": ratio, "goal": GOAL, "detail": detail},
        {"name": f"in one set-up {title}", "ratio": same, "goal": None, "detail": in_ours},
        {"name": f"its maps {title}", "ratio": apart, "goal": MOST_DIFFERENT,
         "detail": f"of {batch} maps of 224 x 224", "lower": True},
    ]  # fmt: skip


def side(what: str, as_eval: bool, model: str, batch: int) -> list[float]:
    """Draw maps in this process, one batch per turn; return the seconds of each turn but the first."""
    if as_eval:
        allocator.tune_allocator()
    draw = _drawer(what, as_eval, model, batch)
    watch = Stopwatch(1)
    for _ in range(ROUNDS + WARM_UP + 1):
        draw()
        watch.step_done()
    return watch.turns


def difference(model: str, batch: int) -> float:
    """Return the largest difference of any pixel between the maps in closed form and the library's."""
    closed, library = (_drawer(what, True, model, batch)() for what in ("cam", "library"))
    return float(abs(closed - library).max())


def _drawer(what: str, as_eval: bool, model: str, batch: int) -> Callable[[], Any]:
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from koa_lightning.explain.cam import heat_maps
    from koa_lightning.models.net import NetSpec, build

    torch.manual_seed(0)
    layout = torch.channels_last if as_eval else torch.contiguous_format
    net = build(NetSpec(model)).to(memory_format=layout).eval()
    images = torch.randn(batch, 1, 224, 224)
    grades = [row % 5 for row in range(batch)]

    def library() -> Any:
        with GradCAM(model=net, target_layers=[net.last_map]) as cam:
            return cam(input_tensor=images, targets=[ClassifierOutputTarget(grade) for grade in grades])

    return library if what == "library" else lambda: heat_maps(net, images, grades, method=what)


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
