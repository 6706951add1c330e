"""Grade radiographs over HTTP: `python -m koa_lightning.serve ckpt=FILE [port=8000]`."""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import secrets
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER, __version__
from koa_lightning.config import heat_maps
from koa_lightning.config.compose import validate
from koa_lightning.config.outcome import DONE
from koa_lightning.errors import InputError
from koa_lightning.evaluation import referral
from koa_lightning.evaluation.predictor import Predictor
from koa_lightning.explain import cam
from koa_lightning.serving.service import settings
from koa_lightning.tracking.ports import check_port
from koa_lightning.uncertainty import conformal


def serve(cfg: DictConfig) -> dict[str, Any]:
    """Serve until a signal arrives; then finish the running requests.

    Args:
        cfg: The config `serve`, composed.

    Returns:
        `exit_code`: 0 after Ctrl-C or a termination signal.

    Raises:
        InputError: The checkpoint cannot be read, the port is in use, other machines have access without a token, or a
            package of the service is missing.
    """
    validate(cfg, "serve")
    if cfg.films == "always":
        raise InputError("films=always: the service does not cut films (prepare does); must be auto or never")
    access, limits = settings.access(cfg), settings.limits(cfg)
    kept, study = settings.folder(cfg, "keep"), settings.folder(cfg, "study")
    check_port(access.host, access.port, "type port=NUMBER for another")
    _check_installed()
    predictor = Predictor.from_checkpoint(cfg.ckpt, uri=cfg.tracking.uri)
    conformal.place(cfg.alpha)
    fitted = predictor.checkpoints[0].record.fitted
    cfg.refer_below, cfg.refer_risk = referral.threshold(fitted, cfg.refer_below, cfg.refer_risk), None
    app = _build(cfg, predictor, access, limits, kept, study)
    _say(cfg, predictor, access, kept)
    del predictor  # the workers have their own
    _run(app, access, limits.seconds)
    print("stopped", flush=True)
    return {"exit_code": DONE}


def _check_installed() -> None:
    for name in ("litserve", "python_multipart", "prometheus_client"):
        if find_spec(name) is None:
            raise InputError(f'serve: {name} is missing; type pip install "koa-lightning[serve]"')


def _build(
    cfg: DictConfig,
    predictor: Predictor,
    access: settings.Access,
    limits: settings.Limits,
    kept: Path | None,
    study: Path | None,
) -> Any:
    from koa_lightning.serving.service.app import build
    from koa_lightning.serving.service.grader import GraderAPI
    from koa_lightning.serving.service.monitoring import Metrics
    from koa_lightning.serving.service.study import Studies
    from koa_lightning.serving.service.workers import Workers

    grading = settings.Grading(cfg.tta == "flip", bool(cfg.calibrated), float(cfg.alpha), float(cfg.refer_below))
    api = GraderAPI(
        tuple(str(checkpoint.path) for checkpoint in predictor.checkpoints),
        grading,
        n_pixels=limits.n_pixels,
        secret=secrets.token_bytes(32),
        n_threads=0 if cfg.workers == 1 else max(1, torch.get_num_threads() // int(cfg.workers)),
        max_batch_size=int(cfg.batch_size),
        batch_timeout=float(cfg.batch_wait),
    )
    metrics = Metrics()
    workers = Workers(
        pickle.dumps(api), n=int(cfg.workers), batch_size=api.max_batch_size, batch_wait=api.batch_timeout,
        seconds=limits.seconds, n_waiting=limits.n_waiting, on_batch=metrics.batches.observe,
    )  # fmt: skip
    shown = about(cfg, predictor, access, limits)
    studies = Studies(study, ", ".join(shown.models)) if study else None
    return build(workers, shown, access, limits, metrics, kept=kept, studies=studies)


def about(cfg: DictConfig, predictor: Predictor, access: settings.Access, limits: settings.Limits) -> Any:
    """Return the description of the model.

    Args:
        cfg: Config of `serve`, with the threshold resolved.
        predictor: The predictor that grades.
        access: Who may use the service.
        limits: Limits of a request.
    """
    from koa_lightning.serving.service.answers import About

    records = [checkpoint.record for checkpoint in predictor.checkpoints]
    methods = sorted({record.fitted.method for record in records}) if cfg.calibrated else ["none"]
    return About(
        version=__version__,
        models=[record.name for record in records],
        caveats=predictor.caveats,
        grade_names=list(predictor.grade_names),
        calibration=", ".join(methods),
        alpha=cfg.alpha,
        refer_below=cfg.refer_below,
        methods=heat_map_methods(predictor),
        max_bytes=limits.n_bytes,
        max_files=limits.n_files,
        max_pixels=limits.n_pixels,
        study=bool(cfg.study),
        token=bool(access.token),
    )


def heat_map_methods(predictor: Predictor) -> dict[str, str]:
    """Return the heat maps that every member of a grader has, with their titles, except the slow ones.

    Args:
        predictor: The predictor that grades.
    """
    found = {}
    for name, title in heat_maps.titles().items():
        if heat_maps.is_slow(name):
            continue
        with contextlib.suppress(InputError):
            for member in predictor.members:
                size = member.checkpoint.preprocessing.image_size
                cam.check(member.net.cpu(), size, "heatmap=false", method=name, link=member.link)
            found[name] = title
    return found


def _say(cfg: DictConfig, predictor: Predictor, access: settings.Access, kept: Path | None) -> None:
    for caveat in predictor.caveats:
        print(f"WARNING: the model carries the caveat: {caveat}")
    if kept:
        print(f"WARNING: every upload and its result are kept in {kept}")
    if not (access.is_local or access.token):
        print("WARNING: insecure=true: anyone who reaches this machine can send images and read grades")
    print(f"page for readers: {access.address}/    API: {access.address}/docs")
    print("a worker is loading the model; Ctrl-C ends the service once the running requests are finished")
    print(DISCLAIMER, flush=True)


def _run(app: Any, access: settings.Access, seconds: float) -> None:
    import uvicorn

    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s", level=logging.WARNING)
    config = uvicorn.Config(
        app, host=access.host, port=access.port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=math.ceil(seconds) + 1, timeout_keep_alive=15,
    )  # fmt: skip
    server = uvicorn.Server(config)
    for number in (signal.SIGHUP, signal.SIGUSR1):  # uvicorn handles the two others
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, server.handle_exit)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has ended
        server.run()
