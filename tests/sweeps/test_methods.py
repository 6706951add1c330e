"""A sweep that is killed while a trial is being proposed has the points of a whole one."""

import optuna
import pytest

from koa_lightning.sweeps import study
from koa_lightning.sweeps.methods import METHODS, Method
from koa_lightning.sweeps.space import Space


class Killed(BaseException):
    pass


def proposed(name, space, monkeypatch, killed_at=()):
    """Return the points of four trials that count; the process dies in the last `suggest` of those at these numbers."""
    found = optuna.create_study()
    points, calls = [], 0
    while len(points) < 4:
        method = Method(name, space, 42, False, 2)  # of the next process
        found.sampler = optuna.samplers.RandomSampler(seed=calls)  # it knows nothing of the one before
        with monkeypatch.context() as patch:
            if calls in killed_at:
                patch.setattr(type(space.parameters[-1]), "suggest", _dying(space.parameters[-1]))
            calls += 1
            try:
                trial, point = method.propose(found)
            except Killed:
                study.mark_interrupted(found)
                continue
        trial.set_user_attr("overrides", [])
        found.tell(trial, float(len(points)))
        points.append(point)
    return points


def _dying(last):
    suggest = type(last).suggest

    def dies(self, trial):
        if self is last:
            raise Killed
        return suggest(self, trial)

    return dies


@pytest.mark.parametrize("name", METHODS)
def test_a_kill_between_two_values_loses_no_point(name, read, monkeypatch):
    space, _ = read("a=choice(x,y)", "b=choice(p,q)")
    assert isinstance(space, Space)
    whole = proposed(name, space, monkeypatch)
    assert proposed(name, space, monkeypatch, killed_at=(1, 2, 4)) == whole
    if name == "grid":
        assert whole == [{"a": a, "b": b} for a in "xy" for b in "pq"]
