"""What every request passes on its way in and out: how large it may be, how it is counted, and how errors are said."""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .service_metrics import Metrics

JSON_TYPE = 'a JSON object such as {"text": "a small dog sleeps"}'


class Edge:
    """Refuses bodies that are too large, before they are in memory, and counts what is answered.

    Args:
        app: the rest of the service.
        most_bytes: of a body.
        metrics: that count.
        paths: that are counted by their name; all others are counted together.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, metrics: Metrics, paths: Sequence[str]) -> None:
        self.app, self.most_bytes, self.metrics, self.paths = app, most_bytes, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, read, code = time.monotonic(), 0, 500
        length = dict(scope["headers"]).get(b"content-length", b"0")

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            if length.isdigit() and int(length) > self.most_bytes:
                await said(413, self._too_large())(scope, receive, noted)
            else:
                await self.app(scope, bounded, noted)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.answered(path, code, time.monotonic() - began)

    def _too_large(self) -> str:
        return f"A request has {self.most_bytes} bytes at most. Send fewer texts at once."


def said(code: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error, in one sentence."""
    return JSONResponse({"error": error}, code, headers)


def speak_plainly(app: FastAPI) -> None:
    """Say every error of a request as `{"error": "one sentence"}`."""

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return said(*sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        return said(error.status_code, str(error.detail), dict(error.headers or {}))


def sentence(errors: Sequence[Any]) -> tuple[int, str]:
    """Code and sentence for what is wrong with a body."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return 400, f"The body is no JSON ({first['ctx']['error']}). Send {JSON_TYPE}."
    if not place or first["type"] in ("model_attributes_type", "dict_type"):
        return 422, f"The body is {JSON_TYPE}."
    field, given = place[0], f"{first.get('input')!r:.60}"
    rules = {
        "extra_forbidden": f"There is no field {field}. Leave it out.",
        "missing": f"The field {field} is missing. Send {JSON_TYPE}.",
    }
    if first["type"] in rules:
        return 422, rules[first["type"]]
    if field == "text":
        return 422, f"The field text is a text or a list of texts, got {given}."
    return 422, f"The field {field} is a whole number, got {given}."
