"""A config composed for a call from Python, with the one-line errors of the command line. No heavy imports."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from koa_lightning.config import keys
from koa_lightning.config.addresses import keep_passwords
from koa_lightning.config.compose import compose, validate
from koa_lightning.config.outcome import one_line
from koa_lightning.config.overrides import key, quote_paths
from koa_lightning.errors import InputError


def check_texts(overrides: Sequence[object]) -> None:
    """Stop if an override is not a string.

    Raises:
        InputError: Names it.
    """
    wrong = [each for each in overrides if not isinstance(each, str)]
    if wrong:
        raise InputError(f"{wrong[0]!r}: an override must be a string, e.g. 'model=efflite0'")


def composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """Return the config of a command, checked.

    Args:
        command: E.g. `train`.
        overrides: As typed; Hydra's own, e.g. the folder of its record, have no effect here.

    Raises:
        InputError: An override is malformed, or a key or a value is unknown.
    """
    check_texts(overrides)
    keys.check_choices(overrides)
    typed = quote_paths([each for each in keep_passwords(overrides) if not key(each).startswith("hydra.")])
    try:
        cfg = compose(command, typed)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(one_line(error, command) or str(error)) from error
    keys.check(cfg, command, typed)
    validate(cfg, command)
    return cfg
