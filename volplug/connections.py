"""Limits the connections of a socket: their number, and the time in which a request has to arrive.

dockerd keeps idle connections open for as long as it runs, so one is not closed for its age. When there are
too many, the one that has been idle the longest is closed; one with a call in progress never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

_LOG = structlog.get_logger(__name__)
_KEEPALIVE_S: Final = 10 * 365 * 86_400.0  # closing a connection just as dockerd sends on it fails the call


MalformedAnswer = Callable[
    [int, str], web.Response
]  # to a request that cannot be parsed: status, what is wrong


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits for clients of a socket.

    Attributes:
        connections: How many at once. dockerd opens one per call in progress; 500 concurrent Mounts are
            supported, and the default limit of a process is 1,024 descriptors.
        head_s: How long the head of a request may take from its first byte. Engines send it whole.
        head_bytes: How long a head may be that is not complete: aiohttp bounds each of its 128 headers alone.
        body_bytes: Length of a body: twice the limit of all options together, for JSON's escapes.
    """

    connections: int = 1000
    head_s: float = 10.0
    head_bytes: int = 16 * 1024
    body_bytes: int = 128 * 1024


class BoundedServer(web.Server):
    """aiohttp's server with limits.

    Args:
        handler: Answers requests.
        bounds: The limits.
        malformed: Answers requests that cannot be parsed; None for aiohttp's plain text.
    """

    def __init__(
        self,
        handler: Any,  # noqa: ANN401 - aiohttp's type is private
        bounds: Bounds,
        malformed: MalformedAnswer | None = None,
    ) -> None:
        super().__init__(
            handler,
            request_factory=self._request,
            access_log=None,
            auto_decompress=False,  # no engine compresses bodies, and a small one can be large inside
            keepalive_timeout=_KEEPALIVE_S,
        )
        self._bounds = bounds
        self.malformed = malformed
        self.ticks = count()  # orders events, more finely than the loop's clock

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, self._bounds, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Add a connection; if there are too many, close the one that has been idle the longest."""
        super().connection_made(handler, transport)
        open_ones = [each for each in self.connections if isinstance(each, _Connection) and each.is_open]
        if len(open_ones) <= self._bounds.connections:
            return
        # The new one, if all others have calls in progress.
        longest = min((each for each in open_ones if each.is_idle), key=lambda each: each.last_tick)
        _LOG.warning("too many connections, an idle one is closed", connections=len(open_ones))
        longest.end()

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if message.upgrade:  # CONNECT or Upgrade: aiohttp would wait for the end of the other protocol
            message = message._replace(should_close=True)
        return web.Request(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._bounds.body_bytes
        )


@contextmanager
def called_when_lost(request: web.BaseRequest, action: Callable[[], object]) -> Iterator[None]:
    """Call an action if the request's client leaves while the context is open; aiohttp tells no handler."""
    connection = request.protocol
    if not isinstance(connection, _Connection):
        raise TypeError("the request is not one of a BoundedServer")
    connection.on_lost = action
    try:
        yield
    finally:
        connection.on_lost = None


class _Connection(RequestHandler):
    """One connection; closed if the head of a request is not complete in time, or becomes too long."""

    def __init__(self, server: BoundedServer, bounds: Bounds, **how: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(server, **how)
        self._malformed = server.malformed
        self.is_open = True
        self.on_lost: Callable[[], object] | None = None
        self._ticks = server.ticks
        self.last_tick = next(self._ticks)
        self._bounds = bounds
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Tell whether no request waits for its answer, or the client does not read answers."""
        return self._current_request is None and (self.writing_paused or not self._messages)

    def data_received(self, data: bytes) -> None:
        """Process bytes; if no request is complete after them, start the deadline of its head."""
        super().data_received(data)
        self.last_tick = next(self._ticks)
        is_waiting = self._waiter is not None and not self._waiter.done()
        is_unfinished = is_waiting or not self._request_count  # the task that waits may not have begun
        if data and is_unfinished and self._deadline is None:
            self._deadline = self._loop.call_later(self._bounds.head_s, self._end_late)
        elif self._deadline is not None and not is_unfinished:
            self._deadline.cancel()
            self._deadline = None
        self._head_bytes = self._head_bytes + len(data) if is_unfinished else 0
        if self._head_bytes > self._bounds.head_bytes and self.is_open:
            _LOG.warning("head of a request too long, its connection is closed")
            self.end()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that cannot be parsed; aiohttp's own method logs it and closes the connection."""
        answer = super().handle_error(request, status, exc, message)
        if self._malformed is None:
            return answer
        ours = self._malformed(status, " ".join((message or "").split()))
        ours.force_close()
        return ours

    def end(self) -> None:
        """Close it in the next iteration of the loop: it may not be set up yet."""
        self.is_open = False
        self._loop.call_soon(self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the deadline, and end a request that waits for something else than its client."""
        self.is_open = False
        if self._deadline is not None:
            self._deadline.cancel()
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)

    def _end_late(self) -> None:
        _LOG.warning("request incomplete in time, its connection is closed", waited_s=self._bounds.head_s)
        self.end()
