"""Errors of the API, one sentence each, as application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

LOG = logging.getLogger("covidmm.web")
MEDIA_TYPE = "application/problem+json"
#: nginx's code for a client that closed the connection; it is only logged.
CLIENT_LEFT = 499


class ProblemError(Exception):
    """An error to answer with.

    Args:
        status: HTTP status.
        detail: one sentence for the person who asked.
        headers: such as ``Retry-After``.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer to send."""
        title = HTTPStatus(self.status).phrase if self.status != CLIENT_LEFT else "Client Closed Request"
        content = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return JSONResponse(content, self.status, self.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error as a problem."""
    app.add_exception_handler(ProblemError, _of_problem)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The part of an OpenAPI operation that says which problems it answers with."""
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
    }
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


async def _of_problem(_: Request, error: ProblemError) -> JSONResponse:
    return error.response()


async def _of_http(request: Request, error: HTTPException) -> JSONResponse:
    details = {
        404: "There is nothing at this address.",
        405: f"This address does not take {request.method} requests.",
    }
    return ProblemError(error.status_code, details.get(error.status_code, str(error.detail)), error.headers).response()


async def _of_validation(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"][1:]) or "request"
    return ProblemError(422, f"{where}: {first['msg']}.").response()


def log_fault(error: BaseException) -> None:
    """Log type and place of an unexpected exception, never its message, which may quote a header."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    LOG.error("%s at %s", type(error).__name__, " < ".join(reversed(places[-6:])))
