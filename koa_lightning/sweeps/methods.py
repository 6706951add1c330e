"""Choose the next trial.

Each proposal follows from the seed, its place in the sweep, and the trials before it, so that a killed sweep
resumes with the trials that it would have had.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from scipy.stats import qmc

from koa_lightning.errors import InputError
from koa_lightning.sweeps.space import Space, Value

if TYPE_CHECKING:
    from optuna import Study, Trial

METHODS = ("tpe", "random", "grid", "qmc")


class Method:
    """One way to search.

    Args:
        name: One of METHODS.
        space: What varies.
        seed: Seed of all draws.
        parallel: Whether several trials run at a time.
        startup_trials: For TPE: the number of trials drawn at random before it learns.

    Raises:
        InputError: No such method, or it cannot search this space.
    """

    def __init__(self, name: str, space: Space, seed: int, parallel: bool, startup_trials: int) -> None:
        if name not in METHODS:
            raise InputError(f"sweep.method={name}: must be one of {', '.join(METHODS)}")
        self.name, self.space, self.seed = name, space, seed
        self.parallel, self.startup_trials = parallel, startup_trials
        self.points = space.grid() if name == "grid" else []

    def propose(self, study: Study) -> tuple[Trial, dict[str, Value]]:
        """Begin a trial, an interrupted one first, else a new one; return it and its values."""
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        if not any(trial.state == TrialState.WAITING for trial in trials):
            place = sum(not trial.user_attrs.get("interrupted") for trial in trials)
            if self.name in ("tpe", "random"):
                study.sampler = self._sampler(place)
            else:
                study.enqueue_trial(self.points[place] if self.name == "grid" else self._quasi_random(place))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna warns about values that are fixed
            trial = study.ask()
            return trial, self.space.draw(trial)

    def _sampler(self, place: int) -> Any:
        """Return a sampler for one proposal; a single one for all would repeat its draws in the next process."""
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import RandomSampler, TPESampler

        seed = (self.seed * 1_000_003 + place) % 2**32
        if self.name == "random":
            return RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=seed,
                multivariate=True,
                group=True,  # keys that exist only in some trials
                constant_liar=self.parallel,
                n_startup_trials=self.startup_trials,
            )

    def _quasi_random(self, place: int) -> dict[str, Value]:
        """Return a point of a scrambled Sobol sequence (Sobol 1967, Owen 1998); Optuna's takes no choices."""
        sequence = qmc.Sobol(len(self.space.parameters), scramble=True, seed=self.seed)
        if place:
            sequence.fast_forward(place)
        return self.space.at(sequence.random(1)[0])
