"""The routes of the service: FastAPI on top of the workers."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, File, HTTPException, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartParser

from koa_lightning import DISCLAIMER, __version__
from koa_lightning.serving.service import page, problems, study_routes, uploads
from koa_lightning.serving.service.answers import About, Answer, Knee, Refusal
from koa_lightning.serving.service.guard import Guard, error_response
from koa_lightning.serving.service.keep import keep
from koa_lightning.serving.service.monitoring import Metrics
from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.settings import Access, Limits
from koa_lightning.serving.service.study import Studies
from koa_lightning.serving.service.workers import Workers

# Otherwise larger uploads would pass through a temporary file; the guard bounds the memory that they use.
MultiPartParser.spool_max_size = sys.maxsize

Files = Annotated[list[UploadFile], File(description="PNG, JPEG, TIFF, WebP, BMP or DICOM, one knee each")]
Side = Annotated[Literal["", "L", "R"], Query(description="Side of all files; empty: from headers or names")]
Films = Annotated[Literal["auto", "never"], Query(description="never: every picture is of one knee")]
Method = Annotated[str, Query(description="Method of the heat map; GET /v1/model lists them", max_length=40)]
Target = Annotated[Literal["grade", "expected"], Query(description="What the heat map explains")]
_REFUSALS: dict[int | str, dict[str, object]] = {
    status: {"model": Refusal} for status in sorted(set(problems.STATUS.values()) - {404, 405, 409})
}


def build(
    workers: Workers,
    about: About,
    access: Access,
    limits: Limits,
    metrics: Metrics,
    *,
    kept: Path | None = None,
    studies: Studies | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        workers: Workers that start and end with the application.
        about: The model.
        access: Who may use the service.
        limits: Limits of a request.
        metrics: Counters to update.
        kept: Folder that keeps uploads; None keeps none.
        studies: Store of the readings; None turns reader mode off.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await workers.start()
        yield
        await workers.stop()

    app = FastAPI(
        title="koa-lightning", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description=f"Grades radiographs of one knee each (Kellgren-Lawrence 0 to 4). {DISCLAIMER.capitalize()}.",
    )  # fmt: skip
    metrics.watch(lambda: workers.n_in_line, lambda: workers.n_ready)
    app.add_middleware(Guard, access=access, limits=limits)
    app.middleware("http")(_counting(metrics))
    _add_errors(app)
    _add_state(app, workers, about, metrics)
    _add_grading(app, workers, about, limits, metrics, kept)
    study_routes.add(app, workers, about, limits, metrics, studies)
    page.add(app)
    return app


def _add_grading(
    app: FastAPI, workers: Workers, about: About, limits: Limits, metrics: Metrics, kept: Path | None
) -> None:
    @app.post("/v1/grade", responses=_REFUSALS, response_model=Answer, tags=["grading"])
    async def grade(
        files: Files,
        heatmap: Annotated[bool, Query(description="Add a heat map to each knee")] = False,
        method: Method = "gradcam",
        target: Target = "grade",
        picture: Annotated[bool, Query(description="Add the gray values that were graded")] = False,
        side: Side = "",
        films: Films = "auto",
    ) -> Response:
        """Grade images of one knee each; one entry per file, in their order.

        The status is 200 if at least one file has a grade; every other file has an `error`. If no file has a grade, the
        status and `error` are those of the first.
        """
        asked = uploads.Asked(
            method=uploads.checked_method(method, about) if heatmap else "",
            target=target, picture=picture, side=side, films=films,
        )  # fmt: skip
        jobs = await uploads.jobs(files, asked, limits)
        results = await workers.grade(jobs)
        knees = [uploads.knee(job, result) for job, result in zip(jobs, results, strict=True)]
        if kept:
            for job, found in zip(jobs, knees, strict=True):
                keep(kept, job.data, found)
        metrics.count(knees)
        return answer(knees, about)


def answer(knees: list[Knee], about: About) -> Response:
    """Return the response to a request of these knees; see `grade` for its status."""
    faults = [knee.error for knee in knees if knee.error is not None]
    if len(faults) < len(knees):
        return JSONResponse(Answer(caveats=about.caveats, knees=knees).model_dump())
    refusal = Refusal(error=faults[0], knees=knees)
    return JSONResponse(refusal.model_dump(), problems.STATUS[faults[0].code])


def _add_state(app: FastAPI, workers: Workers, about: About, metrics: Metrics) -> None:
    @app.get("/v1/model", tags=["model"])
    async def model() -> About:
        """Return the model, and the options of a request."""
        return about

    @app.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """Report that the service runs."""
        return {"status": "ok"}

    @app.get("/ready", tags=["state"], responses={503: {"model": Refusal}})
    async def ready() -> dict[str, str]:
        """Report whether a worker is set up."""
        if not workers.n_ready:
            raise Problem("busy", "no worker is set up yet; try again in some seconds")
        return {"status": "ready"}

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def numbers() -> Response:
        """Return counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _counting(metrics: Metrics) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    async def counted(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        status = 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = getattr(route, "path", "other")  # never the typed path: each would create a series of its own
            metrics.requests.labels(path, status).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - began)

    return counted


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        return error_response(problems.of_http(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["loc"][:2] == ("body", "files") and first["type"] == "missing":
            return error_response(Problem("no_file", "send at least one file as multipart form data, field `files`"))
        return error_response(Problem("bad_request", f"{where}: {first['msg']}"))
