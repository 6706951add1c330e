"""Heat maps in closed form, against Grad-CAM of pytorch-grad-cam used as its page shows.

    python -m benchmarks.cam

Both on the last map of the same network (Lite0, B3 with random weights; 224 pixels), for the same grades, in one
process in turn; the ratio is the median of the ratios of neighbouring runs. A second row tells the largest difference
of any pixel between the two, of maps scaled to 0-1. Our own Grad-CAM, which differentiates the head alone, is told too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

CASES = (("Lite0", "tf_efficientnet_lite0", 16), ("B3", "efficientnet_b3", 8))  # name, timm's name, batch
ROUNDS = 7
GOAL, MOST_DIFFERENT = 5.0, 1e-4


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}, and for the difference also lower=True."""
    from koa_lightning import speed

    speed.tune_allocator()  # as eval does; it helps the library more than us
    return [row for case in CASES for row in _compare(*case)]


def _compare(name: str, model: str, batch: int) -> list[dict]:
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from koa_lightning.explain.cam import heat_maps
    from koa_lightning.models.net import NetSpec, build

    torch.manual_seed(0)
    net = build(NetSpec(model)).to(memory_format=torch.channels_last).eval()
    images = torch.randn(batch, 1, 224, 224)
    grades = [row % 5 for row in range(batch)]

    def library() -> object:
        with GradCAM(model=net, target_layers=[net.last_map]) as cam:
            return cam(input_tensor=images, targets=[ClassifierOutputTarget(grade) for grade in grades])

    def ours(method: str) -> Callable[[], object]:
        return lambda: heat_maps(net, images, grades, method=method)

    sides = (library, ours("cam"), ours("gradcam"))
    times = [[_seconds(side) for side in sides] for _ in range(ROUNDS + 1)][1:]  # the first warms up
    ratio, ours_ratio = (statistics.median(each[0] / each[side] for each in times) for side in (1, 2))
    theirs_ms, cam_ms, gradcam_ms = (1e3 * statistics.median(side) / batch for side in zip(*times, strict=True))
    apart = float(abs(library() - sides[1]()).max())  # type: ignore[operator]
    detail = f"{theirs_ms:.0f} ms, cam {cam_ms:.1f} ms, our gradcam {gradcam_ms:.1f} ms a knee ({ours_ratio:.1f} times)"
    about = f"of {batch} maps of 224 x 224"
    title = f"{name}, batch {batch}"
    return [
        {"name": f"cam {title}", "ratio": ratio, "goal": GOAL, "detail": detail},
        {"name": f"its maps {title}", "ratio": apart, "goal": MOST_DIFFERENT, "detail": about, "lower": True},
    ]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
