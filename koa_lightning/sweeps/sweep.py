"""A sweep with Optuna under Hydra's multirun: ask, launch, tell, and resume where it stopped.

The main process asks and tells; jobs run where the launcher puts them and only report. Whenever it is killed, the
database holds every trial that had ended, and the same command repeats those that were running.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from koa_lightning.config import environment, gpus, outcome, overrides
from koa_lightning.errors import InputError
from koa_lightning.sweeps import settings as sweep_settings
from koa_lightning.sweeps import space, study
from koa_lightning.sweeps.engine import Engine
from koa_lightning.sweeps.launch import Program
from koa_lightning.sweeps.methods import Method
from koa_lightning.sweeps.settings import Settings
from koa_lightning.sweeps.trial import make_pruner

if TYPE_CHECKING:
    import optuna


_HERE = ("processes", "joblib", "submitit_local")  # launchers whose jobs run in parallel on this machine


def sweep(program: Program, given: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Search, from where an earlier call of the same command stopped.

    Args:
        program: The program whose settings vary.
        given: The settings, as in `hydra_plugins.koa_sweeps.OptunaConf`.
        arguments: The overrides of the command line.

    Raises:
        SystemExit: 1 partly done, 2 bad input (after one line that says so), 130 interrupted.
    """
    try:
        code = _sweep(program, given, arguments)
    except InputError as error:
        outcome.say_error(str(error))
        code = outcome.BAD_INPUT
    if code != outcome.DONE:
        raise SystemExit(code)


def _sweep(program: Program, given: Mapping[str, Any], arguments: Sequence[str]) -> int:
    import optuna

    settings, from_config = sweep_settings.read(given)
    loader = program.context.config_loader
    typed = [item for item in arguments if not (from_config and re.match(r"sweep\b", overrides.key(item)))]
    searched, fixed = space.read(settings.space, typed, OverridesParser.create(config_loader=loader))
    if settings.repeats > 1 and settings.repeat_key in searched.typed:
        raise InputError(f"{settings.repeat_key}: varies, so sweep.repeats cannot use it; type another sweep.repeat")
    method = Method(settings.method, searched, settings.seed, settings.n_jobs > 1, settings.startup_trials)
    configs = [loader.load_sweep_config(program.config, [*fixed, *space.typed(point)]) for point in searched.corners()]
    if settings.repeats > 1:
        sweep_settings.check_repeat(settings, configs[0])
    listener = instantiate(settings.listener) if settings.listener else None
    if listener is not None:
        listener.check(settings, searched, configs)
    _check_room(program, settings, configs)
    pruner = make_pruner(settings.pruner)
    mark = sweep_settings.fingerprint(settings, searched.typed, configs[0])
    name = str(settings.name or f"{settings.method}-{mark}")
    address = study.url(settings.storage)
    # Jobs receive the address in their environment, not in a file, as it may hold a password.
    with environment.variables(**{study.STORAGE_VARIABLE: address}), study.holding(address, name):
        found = _opened(address, name, settings, pruner)
        then = found.user_attrs
        if then.get("koa_fingerprint", mark) != mark and study.is_vain(found):  # its name is free
            optuna.delete_study(study_name=name, storage=found._storage)
            found = _opened(address, name, settings, pruner)
            then = found.user_attrs
        if then.get("koa_fingerprint", mark) != mark or ("koa_fingerprint" not in then and found.trials):
            how = sweep_settings.difference(then, searched.typed, fixed, settings)
            where = study.public(address)
            raise InputError(f"sweep.name={name}: is another sweep in {where} ({how}); choose another name")
        folder = sweep_settings.folder(settings, name)
        attributes = {
            "koa_space": searched.typed,
            "koa_fixed": fixed,
            "koa_command": sweep_settings.command(program.config),
            "koa_ensemble": settings.ensemble,
            "koa_metrics": settings.metrics,
            "koa_directions": sweep_settings.directions(settings),
            "koa_folder": str(folder),
            "koa_fingerprint": mark,
        }
        for key, value in attributes.items():
            if then.get(key) != value:
                found.set_user_attr(key, value)
        engine = Engine(program, settings, searched, fixed, method, found, folder, configs[0], listener)
        return engine.run()


def _check_room(program: Program, settings: Settings, configs: Sequence[Any]) -> None:
    """Check that parallel trainings on this machine have a device each."""
    if str(program.config.hydra.runtime.choices["hydra/launcher"]) not in _HERE:
        return
    for config in configs:
        if "trainer" in config:  # otherwise it is another program
            gpus.check_room("sweep.n_jobs", settings.n_jobs, str(config.trainer.accelerator), config.trainer.devices)


def _opened(address: str, name: str, settings: Settings, pruner: Any) -> optuna.Study:
    """Return the study of the sweep, created if needed."""
    import optuna

    return optuna.create_study(
        storage=study.open_storage(address),
        study_name=name,
        directions=sweep_settings.directions(settings),  # type: ignore[arg-type]
        pruner=pruner or optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
