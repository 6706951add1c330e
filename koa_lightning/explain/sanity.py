"""Does the heat depend on what the network has learned, and is it stable when the image hardly changes?

The model randomisation test (Adebayo 2018): a map that does not change when the weights are discarded shows the
image, not the network.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from koa_lightning.explain.subject import Subject
from koa_lightning.explain.verdict import FAILED, PASSED, UNKNOWN, mean_interval
from koa_lightning.models.net import KneeNet

MOST_ALIKE = 0.5  # rank correlation; above, a map of a randomised network has not changed
MOST_CHANGED = 0.8  # rank correlation under noise; below, a map is unstable
NOISE = 0.02  # of the gray range: about as much as a radiograph's own grain
REPEATS = 3
_SEEN = 28  # pixels per side at which maps are compared: finer detail is only interpolation
RULE_SANITY = (
    "the whole 95 % interval by patient of the rank correlation with the trained network's map is below "
    f"{MOST_ALIKE}, both when the classifier is random and when all layers are"
)
RULE_NOISE = f"the whole 95 % interval by patient of the rank correlation is above {MOST_CHANGED}"


def randomisation(subject: Subject, maps: np.ndarray, *, repeats: int = REPEATS, seed: int = 0) -> dict[str, Any]:
    """Randomise the network from its classifier down, layer by layer, and compare the maps with the trained ones.

    The same grade is explained throughout. A map that is 0 everywhere has similarity 0 to any other.

    Args:
        subject: The network, which is not changed, and its knees.
        maps: The trained network's maps, float32 N x H x W.
        repeats: Random networks to average over.
        seed: Of the first random network.

    Returns:
        `layers` (one row each, from the classifier down: `layer`, `similarity`, `low`, `high`), `verdict`, `rule`.
    """
    names = [name for name, _ in layers_of(subject.net)]
    alike = np.zeros((repeats, len(names), len(subject)))
    for repeat in range(repeats):
        net = copy.deepcopy(subject.net)
        randomised: list[nn.Module] = []
        for depth, (_, modules) in enumerate(layers_of(net)):
            for module in modules:
                randomise(module, seed + 1000 * repeat + depth)
            randomised += modules
            take_statistics(net, randomised, subject.images, subject.batch_size)
            subject.tick(len(subject))
            alike[repeat, depth] = similarity(maps, subject.maps(net=net))
    intervals = [mean_interval(each, subject.patients) for each in alike.mean(0)]
    layers = [
        {"layer": name, "similarity": each["value"], "low": each["low"], "high": each["high"]}
        for name, each in zip(names, intervals, strict=True)
    ]
    highs = [layers[0]["high"], layers[-1]["high"]]
    verdict = UNKNOWN if None in highs else PASSED if max(highs) < MOST_ALIKE else FAILED
    return {"layers": layers, "n": len(subject), "repeats": repeats, "verdict": verdict, "rule": RULE_SANITY}


def noise(subject: Subject, maps: np.ndarray, *, repeats: int = REPEATS, seed: int = 0) -> dict[str, Any]:
    """Compare the maps with those of the same knees and grades under a little noise.

    Args:
        subject: The network and its knees.
        maps: Maps without noise, float32 N x H x W.
        repeats: Draws of noise to average over.
        seed: Of the noise.

    Returns:
        `similarity` with `low` and `high`; `between_knees`, the similarity of different knees' maps, which is due to
        the joint's common place in the image; `deviation` of the noise, `n`, `verdict`, `rule`.
    """
    generator = torch.Generator().manual_seed(seed)
    alike = np.zeros((repeats, len(subject)))
    for repeat in range(repeats):
        grain = NOISE * torch.randn(subject.images.shape, generator=generator)
        alike[repeat] = similarity(maps, subject.maps((subject.images + grain).clamp(0, 1)))
    found = mean_interval(alike.mean(0), subject.patients)
    others = similarity(maps, np.roll(maps, len(maps) // 2, axis=0))
    verdict = UNKNOWN if found["low"] is None else PASSED if found["low"] > MOST_CHANGED else FAILED
    limits = {"similarity": found["value"], "low": found["low"], "high": found["high"]}
    rest = {"deviation": NOISE, "n": len(subject), "repeats": repeats, "verdict": verdict, "rule": RULE_NOISE}
    return {**limits, "between_knees": float(others.mean()), **rest}


def similarity(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the rank correlation (Spearman) of each pair of maps N x H x W, float64 N; 0 where one is flat."""
    flat = [_small(each) for each in (maps, others)]
    a, b = (rankdata(each, axis=1) for each in flat)
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    sizes = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return (a * b).sum(1) / np.where(sizes > 0, sizes, 1)


def layers_of(net: KneeNet) -> list[tuple[str, list[nn.Module]]]:
    """Return the network's layers with weights, from the classifier down: name and modules.

    These are the children of timm's model. A sequence of stages (`blocks`, `stages`, `layers`) is split.
    The model's own parameters, such as class token and positions, are one layer, `own`.
    """
    own = list(net.net.parameters(recurse=False))
    found: list[tuple[str, list[nn.Module]]] = [("own", [nn.ParameterList(own)])] if own else []
    for name, child in net.net.named_children():
        stages = isinstance(child, nn.Sequential | nn.ModuleList) and name in ("blocks", "stages", "layers")
        modules = [(f"{name}.{n}", each) for n, each in child.named_children()] if stages else [(name, child)]
        found += [(label, [module]) for label, module in modules if any(True for _ in module.parameters())]
    classifier = {id(parameter) for parameter in net.head_parameters()}

    def is_body(layer: tuple[str, list[nn.Module]]) -> bool:
        return not any(id(parameter) in classifier for module in layer[1] for parameter in module.parameters())

    found.reverse()
    return sorted(found, key=is_body)  # a stable sort: equals keep their order


def randomise(module: nn.Module, seed: int) -> None:
    """Re-initialise the weights of a module, as before training; weights that cannot be reset are shuffled."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for each in module.modules():
            if callable(getattr(each, "reset_parameters", None)):
                each.reset_parameters()  # type: ignore[operator]
                continue
            for parameter in each.parameters(recurse=False):
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))


def randomise_all(net: KneeNet, images: Tensor, batch_size: int, seed: int = 0) -> None:
    """Re-initialise all weights of a network, in place, with statistics of these images (float32, N x 1 x H x W)."""
    layers = [module for _, modules in layers_of(net) for module in modules]
    for number, module in enumerate(layers):
        randomise(module, seed + number)
    take_statistics(net, layers, images, batch_size)


def take_statistics(net: KneeNet, modules: Sequence[nn.Module], images: Tensor, batch_size: int) -> None:
    """Recompute the statistics of the batch normalisations among these modules on the images.

    With the statistics of training, or none, a random network's values would vanish or grow from layer to layer.
    """
    norms = [m for module in modules for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    kept = [norm.momentum for norm in norms]
    device = next(net.parameters()).device
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        for batch in images.split(batch_size):
            net(net.normalise(batch.to(device)))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()


def _small(maps: np.ndarray) -> np.ndarray:
    pooled = nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(maps)), min(_SEEN, maps.shape[-1]))
    return pooled.flatten(1).numpy().round(4)  # rounded, because noise in the last digits must not affect ranks
