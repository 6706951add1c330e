"""Grad-CAM (Selvaraju 2017): where on the radiograph the evidence for a grade lies.

The heat says where a network looked, not that it looked at osteoarthritis.
Research use only, not a medical device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from koa_lightning.errors import InputError
from koa_lightning.links import probabilities


def gradcam(
    model: nn.Module,
    images: Tensor,
    grades: Sequence[int] | Tensor | np.ndarray | None = None,
    *,
    link: str = "softmax",
    batch_size: int = 32,
) -> np.ndarray:
    """Heat maps of the evidence for a grade, each scaled to its own maximum.

    Computed in float32, outside autocast, in evaluation mode; works inside `torch.no_grad` and
    `torch.inference_mode`. The model is left as found, also after an error: training flags, gradients,
    `requires_grad` and hooks. Meanwhile it carries hooks, so no other thread may use it.

    Args:
        model: Network with an nn.Identity `last_map` that its last map, N x C x h x w, passes through.
        images: Float, N x c x H x W, as the model takes them.
        grades: Grade to explain of each image, N, 0 to 4; None for the predicted one.
        link: "softmax" explains the grade's logit, "corn" its probability (the logits are conditional).
        batch_size: Images a pass.

    Returns:
        float32, N x H x W, in [0, 1]; all 0 where nothing on the map speaks for the grade, or where a "corn"
        probability is 0 or 1 to the last bit and so has no gradient.

    Raises:
        InputError: The model has no such feature map (a transformer), is not float32, gives values that are
            not finite, or images and grades do not fit.
    """
    last_map = _last_map_of(model)
    wanted = _checked_grades(images, grades)
    device = next(model.parameters()).device
    maps = [np.zeros((0, *images.shape[2:]), dtype=np.float32)]
    with (
        _as_found(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        for start in range(0, len(images), batch_size):
            # a clone: a model may work in place, which a tensor made in inference mode does not allow here
            batch = images[start : start + batch_size].detach().clone().to(device, torch.float32)
            targets = [_GradeScore(link, grade) for grade in wanted[start : start + batch_size]]
            maps.append(_heat(model, last_map, batch, targets))
    return np.concatenate(maps)


def check(net: nn.Module, image_size: int, switch: str, *, link: str = "softmax") -> None:
    """Stop before long work where its end would ask for maps that this network does not have.

    Args:
        net: As for `gradcam`.
        image_size: In pixels.
        switch: What to type to do without maps, e.g. `explain=none`.
        link: As for `gradcam`.

    Raises:
        InputError: It has none.
    """
    try:
        gradcam(net, torch.zeros(1, 1, image_size, image_size), link=link)
    except InputError as error:
        raise InputError(f"{error}; type {switch} to do without maps") from None


class _GradeScore:
    """What is differentiated: the evidence for one image's grade."""

    def __init__(self, link: str, grade: int | None) -> None:
        self.link = link
        self.grade = grade

    def __call__(self, logits: Tensor) -> Tensor:
        if not logits.requires_grad:
            raise InputError("the model's output does not depend on its last_map: pass the last feature map through it")
        shares = probabilities(logits[None], self.link)[0]
        grade = int(shares.argmax()) if self.grade is None else self.grade
        # the log only scales a map that is scaled anyway, and tells tiny probabilities from 0
        tiny = torch.finfo(shares.dtype).tiny
        return logits[grade] if self.link == "softmax" else shares[grade].clamp_min(tiny).log()


def _heat(model: nn.Module, last_map: nn.Module, batch: Tensor, targets: list[_GradeScore]) -> np.ndarray:
    """One pass; the graph starts at the last map, so the backbone is neither recorded nor run backwards."""

    def start_graph(module: nn.Module, args: object, output: Tensor) -> Tensor:
        _check_map(output, batch)
        return output.detach().float().requires_grad_()

    # no `with GradCAM(...)`: its exit prints and swallows an IndexError
    hook = last_map.register_forward_hook(start_graph, prepend=True)
    cam: GradCAM | None = None
    try:
        cam = GradCAM(model=model, target_layers=[last_map])
        heat = cam(input_tensor=batch, targets=targets)
    finally:
        hook.remove()
        if cam is not None:
            cam.activations_and_grads.release()
    if not np.isfinite(heat).all():
        raise InputError("class activation maps that are not finite: the weights diverged or the images hold NaN")
    return np.clip(heat, 0, 1, dtype=np.float32)


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Freeze the model, and put back its training flags, gradients and requires_grad afterwards."""
    training = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag  # not train(), which a model may have made its own
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


def _last_map_of(model: nn.Module) -> nn.Module:
    last_map = getattr(model, "last_map", None)
    if not isinstance(last_map, nn.Module):
        raise InputError(f"{type(model).__name__} has no last_map: class activation maps need a convolutional network")
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise InputError("class activation maps need float32 weights: call model.float() first")
    return last_map


def _check_map(output: Tensor, batch: Tensor) -> None:
    is_map = output.ndim == 4
    if is_map:
        # a map keeps the picture's shape; channels in the last place (N x h x w x C) betray themselves here
        sides = output.shape[-2] * batch.shape[-1], output.shape[-1] * batch.shape[-2]
        is_map = max(sides) <= 2 * min(sides)
    if not is_map:
        raise InputError(
            f"last_map carries {tuple(output.shape)}, not N x C x h x w: class activation maps need a "
            "convolutional network, not a transformer"
        )


def _checked_grades(images: Tensor, grades: Sequence[int] | Tensor | np.ndarray | None) -> list[int | None]:
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            f"images {tuple(images.shape)} of {images.dtype}: give float N x c x H x W as the model takes it"
        )
    if grades is None:
        return [None] * len(images)
    wanted = [int(grade) for grade in grades]
    if len(wanted) != len(images) or not all(0 <= grade <= 4 for grade in wanted):
        raise InputError(f"{len(wanted)} grades for {len(images)} images: give one of 0 to 4 for each image")
    return list(wanted)
