"""The phantoms whose mean stands for a knee, where an inverted radiograph or a film of two knees is looked for."""

from collections.abc import Iterator

import numpy as np

_PATIENTS = 32


def typical_phantoms(size: int) -> Iterator[np.ndarray]:
    """Draw both knees of 32 patients, the same each time, uint8 `size` x `size`."""
    # SciPy's filters take a tenth of a second to import; a grader loads without them
    from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest

    knees = phantom_manifest(_PATIENTS, seed=0)
    patients, sides, grades = (knees[name].tolist() for name in ("patient", "side", "grade"))
    yield from draw_phantoms(patients, sides, grades, seed=0, size=size)
