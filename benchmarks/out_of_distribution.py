"""How well knees and other pictures are separated: `python -m benchmarks.out_of_distribution CKPT [data=...]`.

The statistics are fitted on half of the patients in the validation split of the checkpoint's data; the other half's
knees are compared with pictures without a knee, and with the same knees inverted or turned. For each kind and each
description: the AUROC, and the share that is flagged. Goal: an AUROC of at least 0.95 for each kind.
Research use only, not a medical device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from koa_lightning.uncertainty.out_of_distribution import COMPONENTS

N = 100  # pictures of each kind without a knee
GOAL = 0.95


def strangers(n: int, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return pictures uint8 n x size x size of each kind without a knee."""
    kinds = {
        "shapes": _shapes, "hand": _hand, "chest": _chest, "gradient": _gradient, "blank": _blank,
        "white noise": _noise, "smooth noise": _smooth, "page of text": _page,
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    return {name: np.stack([_bytes(draw(size, rng)) for _ in range(n)]) for name, draw in kinds.items()}


def turned(knees: np.ndarray) -> dict[str, np.ndarray]:
    """Return knees uint8 N x S x S inverted, and turned."""
    quarter = {f"turned by {90 * k}": np.ascontiguousarray(np.rot90(knees, k, (1, 2))) for k in (1, 2, 3)}
    return {"inverted": 255 - knees, "upside down": np.ascontiguousarray(knees[:, ::-1]), **quarter}


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _grain(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with the grain of film, so that smoothness alone does not give it away."""
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(0.5, 3))
    return blurred + rng.uniform(0.01, 0.06) * rng.normal(size=picture.shape)


def _shapes(size: int, rng: np.random.Generator) -> np.ndarray:
    canvas = np.full((size, size), rng.uniform(0, 0.3), np.float32)
    for _ in range(rng.integers(2, 7)):
        centre, axes = rng.integers(0, size, 2).tolist(), rng.integers(size // 12, size // 3, 2).tolist()
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, float(rng.uniform(0.3, 1)), -1)
    return _grain(canvas, rng)


def _hand(size: int, rng: np.random.Generator) -> np.ndarray:
    canvas = np.full((size, size), 0.08, np.float32)
    wrist = np.array([size * rng.uniform(0.4, 0.6), size * 0.85])
    cv2.circle(canvas, (int(wrist[0]), int(size * 0.75)), size // 6, 0.45, -1)
    for finger in range(5):
        angle = np.deg2rad(rng.uniform(-5, 5) + 180 + 30 + 30 * finger)
        for joint, (near, far) in enumerate(((0.2, 0.38), (0.4, 0.5), (0.52, 0.6))):
            ends = [wrist + size * reach * np.array([np.cos(angle), np.sin(angle)]) for reach in (near, far)]
            points = [tuple(int(x) for x in end) for end in ends]
            cv2.line(canvas, points[0], points[1], 0.85 - 0.1 * joint, max(2, size // 18 - joint * size // 90))
    return _grain(canvas, rng)


def _chest(size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    canvas = 0.75 - 0.25 * np.abs(x) + 0.1 * y
    for side in (-1, 1):
        lung = ((x - side * rng.uniform(0.4, 0.5)) / 0.33) ** 2 + ((y + 0.05) / rng.uniform(0.65, 0.8)) ** 2
        canvas -= 0.5 / (1 + np.exp(12 * (lung - 1)))
    ribs = np.sin(rng.uniform(16, 24) * (y + 0.35 * np.abs(x)) + rng.uniform(0, 6)) ** 8
    return _grain((canvas + 0.1 * ribs * (np.abs(x) > 0.15)).astype(np.float32), rng)


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + rng.uniform(0.2, 0.5) * (np.cos(angle) * x + np.sin(angle) * y)
    return _grain(ramp.astype(np.float32), rng)


def _blank(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((size, size), rng.uniform(0, 1), np.float32) + rng.choice([0, 0.01]) * rng.normal(size=(size, size))


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.3, 0.6) + rng.uniform(0.1, 0.3) * rng.normal(size=(size, size))


def _smooth(size: int, rng: np.random.Generator) -> np.ndarray:
    smooth = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), rng.uniform(2, size / 8))
    return 0.5 + 0.2 * smooth / smooth.std()


def _page(size: int, rng: np.random.Generator) -> np.ndarray:
    canvas = np.full((size, size), 242, np.uint8)
    for row in range(size // 12, size, size // 14):
        words = "".join(chr(rng.integers(97, 123)) if rng.random() > 0.2 else " " for _ in range(40))
        cv2.putText(canvas, words, (size // 20, row), cv2.FONT_HERSHEY_SIMPLEX, size / 800, 20, 1)
    return _grain(canvas / 255, rng)


def measure(ckpt: str, *data_overrides: str) -> list[dict]:
    """Return a row for each kind: AUROC of each description and of the worst of them, and the share flagged."""
    from sklearn.metrics import roc_auc_score

    from koa_lightning.checkpoint import reading
    from koa_lightning.config.compose import compose
    from koa_lightning.evaluation.data import data_for
    from koa_lightning.uncertainty import out_of_distribution, patients

    read = reading.read(ckpt)
    data = data_for(compose("eval", [f"ckpt='{ckpt}'", "split=val", *data_overrides]), read).prepare(("val",))
    net = read.network()

    def look(images: np.ndarray) -> dict[str, np.ndarray]:
        batches = list(_batches(images))
        with out_of_distribution.watching(net) as seen, torch.no_grad():
            for batch in batches:
                net(net.normalise(batch))
        return out_of_distribution.describe(batches, seen)

    dataset = data.datasets["val"]
    group = patients.groups(data.tables["val"]["patient"].tolist())
    images = np.stack([dataset.images[row] for row in dataset.rows])
    inside = group % 2 == 0
    own = look(images)
    tensors = out_of_distribution.fit({component: values[inside] for component, values in own.items()}, group[inside])
    rest = images[~inside]
    familiar = _ratios({component: values[~inside] for component, values in own.items()}, tensors)
    rows = [{"kind": "knees", "flagged": float((familiar["all"] > 1).mean()), "n": len(rest)}]
    for kind, pictures in {**turned(rest), **strangers(N, images.shape[-1])}.items():
        found = _ratios(look(pictures), tensors)
        is_strange = np.repeat([0, 1], [len(rest), len(pictures)])
        auroc = {
            component: roc_auc_score(is_strange, np.concatenate([familiar[component], found[component]]))
            for component in found
        }
        rows.append({"kind": kind, "flagged": float((found["all"] > 1).mean()), "n": len(pictures), **auroc})
    return rows


def _ratios(described: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    from koa_lightning.uncertainty import out_of_distribution

    return {
        **out_of_distribution.by_component(described, tensors),
        "all": out_of_distribution.scores(described, tensors)[0],
    }


def _batches(images: np.ndarray) -> Iterator[torch.Tensor]:
    for start in range(0, len(images), 64):
        yield torch.from_numpy(images[start : start + 64]).unsqueeze(1)


def main(ckpt: str, *data_overrides: str) -> int:
    """Print the table; return 1 if the goal is missed."""
    rows = measure(ckpt, *data_overrides)
    print(f"{'kind':<14} {'n':>4} {'flagged':>8} {'AUROC':>7}   alone: {', '.join(COMPONENTS)}")
    for row in rows:
        alone = "  ".join(f"{row[component]:.4f}" for component in COMPONENTS if component in row)
        overall = f"{row['all']:.4f}" if "all" in row else ""
        print(f"{row['kind']:<14} {row['n']:>4} {row['flagged']:>8.1%} {overall:>7}   {alone}")
    missed = [row["kind"] for row in rows if row.get("all", 1) < GOAL]
    print(f"below {GOAL}: {', '.join(missed) or 'none'}")
    return int(bool(missed))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("type python -m benchmarks.out_of_distribution CKPT [data=chen2018 data.root=FOLDER]")
    sys.exit(main(*sys.argv[1:]))
