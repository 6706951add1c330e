"""The work of a worker process: read files, grade them in batches, draw heat maps.

`GraderAPI` has the hooks of a `litserve.LitAPI`, and `GradingLoop` is a loop of LitServe's kind. LitServe's own
server is not used, as it breaks the promises of this service: its batches count requests and not files, one bad
file fails a whole batch, its time limit ends when a request leaves the queue, its idle workers poll, and its signals
abort running requests. So here FastAPI uses LitServe's classes directly.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import pandas as pd
import torch
from litserve.loops import LitLoop

from koa_lightning.data import patterns
from koa_lightning.data.images import is_dicom, size_of
from koa_lightning.data.one_knee import OneKnee, Reader
from koa_lightning.data.prepare.failures import reason
from koa_lightning.data.prepare.names import Key
from koa_lightning.errors import InputError
from koa_lightning.evaluation.predictor import Predictor
from koa_lightning.serving.service import answers, pictures
from koa_lightning.serving.service.job import Job, Result
from koa_lightning.serving.service.problems import Problem, place_of
from koa_lightning.serving.service.settings import Grading

_DECODERS = 2  # images decoded at a time: each may need several bytes per pixel
_log = logging.getLogger(__name__)


class GraderAPI(litserve.LitAPI):
    """Grades files by the hooks of LitServe: decode, batch, predict, unbatch, encode.

    Args:
        files: Checkpoints, as `Predictor.from_checkpoint` takes them; several are an ensemble.
        grading: How knees are graded.
        n_pixels: The most pixels of an image.
        secret: Key for hashing the names of DICOM patients; new at each start of the service, and never written down.
        n_threads: Threads of a worker; 0: torch's default, as in `predict`. The last bits of a probability depend on
            it.
        max_batch_size: The most images graded together.
        batch_timeout: Seconds that a worker waits for more images.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        grading: Grading,
        *,
        n_pixels: int,
        secret: bytes,
        n_threads: int,
        max_batch_size: int,
        batch_timeout: float,
    ) -> None:
        super().__init__(
            max_batch_size=max_batch_size, batch_timeout=batch_timeout, api_path="/v1/grade", loop=GradingLoop()
        )
        self.files, self.grading, self.n_pixels = files, grading, n_pixels
        self.key, self.n_threads = Key(secret, "made for this service"), n_threads

    def setup(self, device: str) -> None:
        """Read the checkpoints.

        Args:
            device: Device of torch; `auto`: a GPU if there is one.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the service ends its workers
        if self.n_threads:
            torch.set_num_threads(self.n_threads)
        chosen = None if device == "auto" else torch.device(device)
        self.predictor = Predictor.from_checkpoint(self.files, device=chosen)
        self.pattern = patterns.pattern_of(dict(self.predictor.checkpoints[0].record.data_settings))
        self._warm_up()

    def _warm_up(self) -> None:
        """Grade and explain a black image, so that the first request does not wait for lazy loading."""
        black = OneKnee(np.zeros((64, 64), np.uint8), "", "")
        self.predict([(Job("", b""), black)])
        with contextlib.suppress(InputError):  # the network has no heat maps
            self.predictor.heat_map(black, 0)

    def decode_request(self, request: Job, **kwargs: Any) -> OneKnee:
        """Read a file as `predict` does.

        Raises:
            Problem: It cannot be read, or has too many pixels.
        """
        if time.monotonic() > request.until:
            raise Problem("timeout", f"{request.name}: waited too long for its turn; send fewer images at once")
        try:
            height, width = size_of(request.data, request.name)
            if height * width > self.n_pixels:
                raise Problem(
                    "too_many_pixels",
                    f"{request.name}: {width} x {height} pixels are more than {self.n_pixels}; crop the joint",
                )
            reader = _OwnReader(self.pattern, request.side, request.films, None, Path(), key=self.key)
            return reader.of_bytes(request.data, Path(request.name))
        except InputError as error:
            raise _problem(error, request) from None

    def predict(self, x: list[tuple[Job, OneKnee]], **kwargs: Any) -> pd.DataFrame:
        """Grade a batch.

        Args:
            x: The files with the knees read from them.
            **kwargs: LitServe passes none.
        """
        how = self.grading
        return self.predictor.grade(
            [job.name for job, _ in x], [knee for _, knee in x],
            flip=how.flip, calibrated=how.calibrated, alpha=how.alpha, refer_below=how.refer_below,
        )  # fmt: skip

    def unbatch(self, output: pd.DataFrame) -> list[dict[Any, Any]]:
        """Return the rows."""
        return output.to_dict("records")

    def encode_response(self, output: tuple[Job, OneKnee, dict[Any, Any]], **kwargs: Any) -> dict[str, Any]:
        """Return the fields of a response, with the requested pictures.

        Raises:
            Problem: The network has no heat map of this kind.
        """
        job, knee, row = output
        fields = answers.of_row(row)
        if job.method:
            try:
                heat = self.predictor.heat_map(knee, fields["grade"], method=job.method, target=job.target)
            except InputError as error:
                raise Problem("no_heat_map", f"{job.name}: {error}") from None
            fields["heatmap"] = pictures.heat_layer(heat)
        if job.picture:
            fields["picture"] = pictures.gray_picture(knee.image)
        return fields


class GradingLoop(LitLoop):
    """Takes batches from the service until there are no more; a bad file fails alone."""

    def __call__(
        self,
        lit_api: GraderAPI,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: Any,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> None:
        """Run the loop; the arguments are those of LitServe's loops.

        Args:
            lit_api: The API, set up.
            device: Device of torch.
            worker_id: Number of the worker.
            request_queue: Yields lists of jobs, and None at the end.
            transport: Receives lists of results.
            workers_setup_status: Not used.
            callback_runner: Not used.
        """
        with ThreadPoolExecutor(_DECODERS) as decoders:
            while (jobs := request_queue.get()) is not None:
                transport.send(answered(lit_api, jobs, decoders), worker_id)


def answered(api: GraderAPI, jobs: list[Job], decoders: ThreadPoolExecutor) -> list[Result]:
    """Return the result of each job of a batch.

    Args:
        api: The API, set up.
        jobs: One batch.
        decoders: Threads that read the files.
    """
    read = list(decoders.map(lambda job: _tried(lambda: api.decode_request(job)), jobs))
    good = [(job, knee) for job, knee in zip(jobs, read, strict=True) if isinstance(knee, OneKnee)]
    rows = _tried(lambda: api.unbatch(api.predict(good))) if good else []
    left = iter(zip(good, rows if isinstance(rows, list) else [rows] * len(good), strict=True))
    results = []
    for knee in read:
        found: Any = knee
        if isinstance(knee, OneKnee):
            (job, _), row = next(left)
            found = row if isinstance(row, Problem) else _encoded(api, job, knee, row)
        if isinstance(found, Problem):
            results.append(Result(problem=found))
        else:
            results.append(Result(fields=found, n_together=len(good)))
    return results


def _encoded(api: GraderAPI, job: Job, knee: OneKnee, row: dict[Any, Any]) -> Any:
    return _tried(lambda: api.encode_response((job, knee, row)))


def _tried(work: Callable[[], Any]) -> Any:
    """Return the result of `work`, or the problem that it raises."""
    try:
        return work()
    except Problem as problem:
        return problem
    except InputError as error:
        return Problem("internal", f"the model returned no grade: {error}")
    except Exception as error:  # the worker continues; a message may quote the file, so only the place is logged
        _log.error("a worker failed: %s", place_of(error))
        return Problem("internal", f"an error of the service ({type(error).__name__}); see its log")


class _OwnReader(Reader):
    """A reader that hashes the patients of DICOM files with the secret of this service."""

    def __init__(self, *args: Any, key: Key) -> None:
        super().__init__(*args)
        self.key = key

    def hashed(self, patient: str) -> str:
        """See `Reader`."""
        return self.key.patient(patient)


def _problem(error: InputError, job: Job) -> Problem:
    """Return the problem of a file; for DICOM in our own words, as a message may quote the header."""
    name = job.name
    said = f"{name}: {reason(str(error), name)}" if is_dicom(job.data, name) else str(error)
    if "both knees" in said:
        return Problem("both_knees", f"{name}: shows both knees; crop one, or send films=never where it is one knee")
    if "lateral view" in said:
        return Problem("lateral_view", f"{name}: a lateral view; send the frontal one")
    if "pixels are more than" in str(error):
        return Problem("too_many_pixels", said)
    return Problem("unreadable", said)
