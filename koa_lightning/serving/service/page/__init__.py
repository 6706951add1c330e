"""The page for readers and the page of the API: plain HTML, CSS and JavaScript, served from the package."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

from koa_lightning.serving.service.problems import Problem

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add(app: FastAPI) -> None:
    """Add the routes of the pages."""
    found = {file.name: file.read_bytes() for file in files(__name__).iterdir() if file.name.endswith(tuple(_KINDS))}

    def answer(name: str) -> Response:
        kind = _KINDS["." + name.rpartition(".")[2]]
        return Response(found[name], media_type=f"{kind}; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return answer("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return answer("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in found:
            raise Problem("not_found", "there is no such page")
        return answer(name)
