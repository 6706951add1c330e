"""Errors of a request: one code, one HTTP status, one line."""

from __future__ import annotations

from pathlib import Path

from fastapi import HTTPException

STATUS = {
    "bad_request": 400,
    "no_file": 400,
    "unauthorised": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "too_many_files": 413,
    "too_many_pixels": 422,
    "unreadable": 422,
    "both_knees": 422,
    "lateral_view": 422,
    "no_heat_map": 422,
    "internal": 500,
    "not_recorded": 507,
    "busy": 503,
    "stopping": 503,
    "timeout": 504,
}
"""The HTTP status of each code of an error."""
_OF_STATUS = {400: "bad_request", 401: "unauthorised", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
              413: "too_large"}  # fmt: skip


class Problem(HTTPException):
    """A request, or one of its files, that gets an error instead of a grade.

    Args:
        code: One of `STATUS`.
        message: One line: what is wrong, and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(STATUS[code], message)
        self.code = code
        self.message = " ".join(message.split())

    def __reduce__(self) -> tuple[type[Problem], tuple[str, str]]:
        return Problem, (self.code, self.message)


def of_http(error: HTTPException) -> Problem:
    """Return an error that FastAPI raised by itself as one of ours."""
    code = _OF_STATUS.get(error.status_code, "bad_request")
    return error if isinstance(error, Problem) else Problem(code, str(error.detail))


def place_of(error: BaseException) -> str:
    """Return the type and place of an exception, without its message, which may quote a file or its header."""
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-5:]))}"
