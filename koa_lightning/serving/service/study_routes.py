"""The routes of a reader study; they need a service started with `study=FOLDER`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, File, Path, Response, UploadFile
from fastapi.responses import JSONResponse

from koa_lightning.serving.service import problems, study, uploads
from koa_lightning.serving.service.answers import About, Agreement, Reading, Recorded, Refusal, StudyState, UnreadKnees
from koa_lightning.serving.service.monitoring import Metrics
from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.settings import Limits
from koa_lightning.serving.service.study import Studies
from koa_lightning.serving.service.workers import Workers

Name = Annotated[str, Path(pattern=study.NAME, description="Name of the file of readings, without its ending")]
_REFUSALS: dict[int | str, dict[str, object]] = {
    status: {"model": Refusal} for status in sorted(set(problems.STATUS.values()) - {405})
}


def add(
    app: FastAPI, workers: Workers, about: About, limits: Limits, metrics: Metrics, studies: Studies | None
) -> None:
    """Add the routes.

    Args:
        app: The application.
        workers: The workers that grade.
        about: The model.
        limits: Limits of a request.
        metrics: Counters to update.
        studies: Store of the readings; None: every route says how to start the service.
    """

    def there() -> Studies:
        if studies is None:
            raise Problem("not_found", "reader mode is off; start the service with study=FOLDER")
        return studies

    @app.get("/v1/study/{name}", responses=_REFUSALS, response_model=StudyState, tags=["reader study"])
    async def state(name: Name) -> dict[str, Any]:
        """Return the progress of a study."""
        return await asyncio.to_thread(study.state, there(), name)

    @app.post("/v1/study/{name}/knees", responses=_REFUSALS, response_model=UnreadKnees, tags=["reader study"])
    async def knees(name: Name, files: Annotated[list[UploadFile], File(description="As for /v1/grade")]) -> Response:
        """Grade knees, but withhold the grades; return their pictures."""
        found = there()
        jobs = await uploads.jobs(files, uploads.Asked(picture=True), limits)
        graded = [uploads.knee(job, result) for job, result in zip(jobs, await workers.grade(jobs), strict=True)]
        metrics.count(graded)
        seen = [await asyncio.to_thread(found.add, name, job.data, k) for job, k in zip(jobs, graded, strict=True)]
        return JSONResponse(UnreadKnees(caveats=about.caveats, knees=seen).model_dump())

    @app.post("/v1/study/{name}/readings", responses=_REFUSALS, tags=["reader study"])
    async def readings(name: Name, reading: Reading) -> Recorded:
        """Record a reader's grade; return the model's result."""
        knee = await asyncio.to_thread(there().record, name, reading.id, reading.grade)
        return Recorded(knee=knee.model_copy(update={"picture": None}))

    @app.get("/v1/study/{name}/agreement", responses=_REFUSALS, tags=["reader study"])
    async def agreement(name: Name) -> Agreement:
        """Return the agreement of reader and model."""
        return await asyncio.to_thread(there().agreement, name)
