"""Checks of every request: its size, time, token and origin; and the headers of every response."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from koa_lightning import DISCLAIMER
from koa_lightning.serving.service.problems import Problem, place_of
from koa_lightning.serving.service.settings import LOOPBACK, Access, Limits

OPEN = ("/", "/docs", "/health", "/ready", "/page/")
"""Paths served without the token: the page itself, which asks the user for it, and the state of the service."""
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",  # responses and pictures of knees stay out of the browser's cache on disk
}
_AT_ONCE = 4  # requests of the largest size that memory may hold together
_ENCODED = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
_log = logging.getLogger(__name__)


def error_response(problem: Problem) -> JSONResponse:
    """Return a problem in the JSON form of every error."""
    headers = {"retry-after": "2"} if problem.status_code == 503 else {}
    if problem.code == "unauthorised":
        headers["www-authenticate"] = "Bearer"
    error = {"code": problem.code, "message": problem.message}
    return JSONResponse({"note": DISCLAIMER, "error": error}, problem.status_code, headers)


class Guard:
    """Refuses requests before they are read; ASGI middleware.

    Args:
        app: The application to guard.
        access: Who may use the service.
        limits: Limits of a request.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        self.app, self.access, self.limits = app, access, limits
        self.n_held = 0  # bytes of all running requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False
        counted = _Counted(receive, self)

        async def with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message["headers"], *_ENCODED]
            await send(message)

        try:
            self._check(scope)
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, counted, with_headers)
            return
        except Problem as found:
            problem = found
        except TimeoutError:
            problem = Problem("timeout", f"the request took more than {self.limits.seconds:g} s; send fewer images")
        except Exception as error:
            _log.error("a request failed: %s", place_of(error))
            problem = Problem("internal", f"an error of the service ({type(error).__name__}); see its log")
        finally:
            self.n_held -= counted.n_bytes
        if not has_begun:
            await error_response(problem)(scope, receive, with_headers)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        check_origin(headers, self.access)
        path = scope["path"]
        is_open = path in OPEN or path.startswith("/page/")
        if self.access.token and not is_open:
            kind, _, sent = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(sent.strip().encode("latin-1"), self.access.token.encode())
            if not (right and kind.lower() == "bearer"):
                raise Problem("unauthorised", "send the service's token, as the header Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.n_bytes:
            raise self.too_large()

    def too_large(self) -> Problem:
        """Return the problem of a request that is too large."""
        return Problem(
            "too_large", f"more than {self.limits.n_bytes >> 20} MB in one request; send fewer files at once"
        )


class _Counted:
    """Passes on the parts of a request's body, and counts their bytes."""

    def __init__(self, receive: Receive, guard: Guard) -> None:
        self.receive, self.guard, self.n_bytes = receive, guard, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        n = len(message.get("body", b""))
        self.n_bytes += n
        self.guard.n_held += n
        limit = self.guard.limits.n_bytes
        if self.n_bytes > limit:
            raise self.guard.too_large()
        if self.guard.n_held > _AT_ONCE * limit:
            raise Problem("busy", "too many files are being sent; try again in some seconds")
        return message


def check_origin(headers: Mapping[str, str], access: Access) -> None:
    """Refuse requests of other sites' pages in the user's browser, by `Origin`, or by a host name rebound to us.

    Args:
        headers: Headers of the request, names in lower case.
        access: Where the service listens.

    Raises:
        Problem: The request comes from another site.
    """
    host = headers.get("host", "")
    if access.is_local and _name(host) not in LOOPBACK:
        raise Problem("forbidden", "this service answers only under 127.0.0.1 and localhost")
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise Problem("forbidden", "this service does not answer pages of other sites")


def _name(host: str) -> str:
    """Return a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
