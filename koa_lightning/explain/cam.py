"""Class activation maps: where on the radiograph the evidence for a grade lies.

One function, `heat_maps`, runs all methods. The heat shows where a network looked, not that it looked at
osteoarthritis: `koa_lightning.explain.examine` tests that. Research use only, not a medical device.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import Tensor, nn

from koa_lightning.config import heat_maps as declared
from koa_lightning.errors import InputError
from koa_lightning.explain import methods
from koa_lightning.explain.evidence import TARGETS, slopes
from koa_lightning.explain.last_map import Split, split
from koa_lightning.models.exported import ExportedNet
from koa_lightning.models.net import KneeNet

Grades = Sequence[int] | Tensor | np.ndarray | None


def heat_maps(
    model: nn.Module,
    images: Tensor,
    grades: Grades = None,
    *,
    method: str = "gradcam",
    target: str = "grade",
    link: str = "softmax",
    batch_size: int = 32,
) -> np.ndarray:
    """Heat maps of the evidence for a grade, or for a higher grade, each scaled to its own maximum.

    Any network with a spatial grid has them, see `koa_lightning.explain.last_map`. Computed in float32, outside
    autocast, in evaluation mode; works inside `torch.no_grad` and `torch.inference_mode`. Afterwards, even after an
    error, the model has its old training flags, gradients and `requires_grad`, and no hook. Its flags differ while this
    runs, so no other thread may use it.

    Args:
        model: Network with `features(images)`, which gives its last map or tokens, and `head(features)`, which gives
            its logits, as `KneeNet`.
        images: Float, N x c x H x W, as the model takes them.
        grades: Grade to explain for each image, N, 0 to 4; None for the predicted one. Checked but not used if the
            target is "expected".
        method: One that `explain/NAME.yaml` declares; `scorecam` passes each image through the network once
            per channel.
        target: "grade" explains the grade; "expected" the expected grade: heat marks evidence for a higher grade.
        link: "softmax" explains the grade's logit, "corn" its probability (the logits are conditional).
        batch_size: Images per pass.

    Returns:
        float32, N x H x W, in [0, 1]; a map is all 0 if nothing on it supports the target, or if a probability is
        exactly 0 or 1 and so has no gradient.

    Raises:
        InputError: No layer of the model has a spatial grid; for `cam`, its head is not pooling and one linear layer;
            it is not float32 or gives values that are not finite; the method or target is unknown; images and grades
            do not match.
    """
    if isinstance(model, ExportedNet):
        return _of_export(model, images, method, target, batch_size)
    _check_model(model, method, target)
    wanted = _checked_grades(images, grades)
    device = next(model.parameters()).device
    size = (images.shape[-1], images.shape[-2])
    maps = [np.zeros((0, *images.shape[2:]), dtype=np.float32)]
    parts: Split | None = None
    with (
        _as_found(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        for start in range(0, len(images), batch_size):
            # a clone: a model may work in place, which tensors made in inference mode do not allow here
            batch = images[start : start + batch_size].detach().clone().to(device, torch.float32)
            if parts is None:
                parts, features = split(model, batch)
            else:
                with torch.no_grad():
                    features = parts.features(batch)
            heat = _heat(parts, batch, features.float(), wanted[start : start + batch_size], method, target, link)
            maps.append(scale_cam_image(scale_cam_image(heat, size)))  # scaled again: resizing lowers the maximum
    return np.clip(np.concatenate(maps), 0, 1, dtype=np.float32)


def _of_export(model: ExportedNet, images: Tensor, method: str, target: str, batch_size: int) -> np.ndarray:
    """Return the maps of an exported file: in closed form, for its own predicted grade."""
    if method not in ("cam", "gradcam") or target != "grade":  # on such a head Grad-CAM equals the closed form
        raise InputError(
            f"explain.method={method}, explain.target={target}: an exported file has only the class activation map of "
            "its grade; type explain=cam, or give the checkpoint that it was made from"
        )
    size = (images.shape[-1], images.shape[-2])
    maps = [np.zeros((0, *images.shape[2:]), dtype=np.float32)]
    for batch in images.split(batch_size):
        maps.append(scale_cam_image(scale_cam_image(np.maximum(model.cams(batch), 0), size)))
    return np.clip(np.concatenate(maps), 0, 1, dtype=np.float32)


def asked(explain: Mapping[str, Any], net: KneeNet) -> dict[str, Any]:
    """Return the keywords of `heat_maps` for the config group `explain` and a network."""
    return {"method": explain["method"], "target": explain["target"], "link": net.spec.link}


def gradcam(
    model: nn.Module, images: Tensor, grades: Grades = None, *, link: str = "softmax", batch_size: int = 32
) -> np.ndarray:
    """Grad-CAM (Selvaraju 2017); see `heat_maps`."""
    return heat_maps(model, images, grades, link=link, batch_size=batch_size)


def check(
    net: nn.Module,
    image_size: int,
    switch: str,
    *,
    method: str = "gradcam",
    target: str = "grade",
    link: str = "softmax",
) -> None:
    """Stop before long work if it will need maps that this network cannot give.

    Args:
        net: As for `heat_maps`.
        image_size: In pixels.
        switch: What to type to do without maps, e.g. `explain=none`.
        method: As for `heat_maps`; a slow one is not run.
        target: As for `heat_maps`.
        link: As for `heat_maps`.

    Raises:
        InputError: The network has no such maps.
    """
    quick = "gradcam" if declared.is_slow(method) else method
    try:
        if isinstance(net, ExportedNet):
            heat_maps(net, torch.zeros(1, 1, image_size, image_size, dtype=torch.uint8), method=method, target=target)
            return
        _check_model(net, method, target)
        heat_maps(net, torch.zeros(1, 1, image_size, image_size), method=quick, target=target, link=link)
    except InputError as error:
        raise InputError(f"{error}; type {switch} to do without maps") from None


def _heat(
    parts: Split, batch: Tensor, features: Tensor, wanted: list[int | None], method: str, target: str, link: str
) -> np.ndarray:
    """Return the maps of a batch, float N x h x w, on the network's own grid or larger."""
    leaf = features.detach().requires_grad_()
    logits = parts.head(leaf)
    if not logits.requires_grad:
        raise InputError("the model's output does not depend on its last feature map: head(features) must use it")
    steps = slopes(logits, wanted, target, link)
    heat = methods.function(method)(parts, batch, features, steps, wanted, target, link)
    if not np.isfinite(heat).all():
        raise InputError("class activation maps are not finite: the weights diverged, or the images contain NaN")
    return np.maximum(heat, 0)


def closed_form(model: Split, images: Tensor, features: Tensor, steps: Tensor, *_: Any) -> np.ndarray:
    """Class activation maps (Zhou 2016): what each place of the last map adds to the logits, N x h x w.

    For a head that averages the map and multiplies it by W, Grad-CAM's channel weights are W's rows: no gradient of
    the network is needed. Whether the head is of this kind is checked on its output, not by its name.
    """
    with torch.no_grad():
        logits = model.head(features)
    places = model.grid(features)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == logits.shape[1]]
    fits = bool(linear) and linear[-1].in_features == places.shape[1]
    if fits and features.isfinite().all():  # else `_heat` says that the maps are not finite
        expected = linear[-1](places.mean((2, 3))).detach()
        fits = torch.allclose(expected, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max().clamp_min(1e-3)))
    if not fits:
        raise InputError(
            "explain.method=cam: this network's head is not an average and one linear layer, so its maps have no "
            "closed form; type explain.method=gradcam"
        )
    return torch.einsum("nc,nchw->nhw", steps @ linear[-1].weight, places).detach().cpu().numpy()


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Freeze the model in eval mode, and restore its training flags, gradients and requires_grad afterwards."""
    training = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for module, _ in training:
            module.training = False  # not eval(), which a model may override
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


def _check_model(model: nn.Module, method: str, target: str) -> None:
    methods.function(method)
    if target not in TARGETS:
        raise InputError(f"explain.target={target}: must be one of {', '.join(TARGETS)}")
    if not all(callable(getattr(model, part, None)) for part in ("features", "head")):
        raise InputError(f"{type(model).__name__} has no features() and head(): class activation maps need a KneeNet")
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise InputError("class activation maps need float32 weights: call model.float() first")


def _checked_grades(images: Tensor, grades: Grades) -> list[int | None]:
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            f"images {tuple(images.shape)} of {images.dtype}: give float N x c x H x W, as the model takes them"
        )
    if grades is None:
        return [None] * len(images)
    wanted = [int(grade) for grade in grades]
    if len(wanted) != len(images) or not all(0 <= grade <= 4 for grade in wanted):
        raise InputError(f"{len(wanted)} grades for {len(images)} images: give one grade, 0 to 4, for each image")
    return list(wanted)
