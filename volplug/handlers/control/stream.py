"""The event stream of the control API: server-sent events, with a keep-alive while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from volplug.api.routes import EVENT_STREAM
from volplug.connections import called_when_lost
from volplug.errors import TooManyWaiting
from volplug.handlers.control.call import ReadCall
from volplug.handlers.control.errors import REQUEST_ID
from volplug.handlers.control.shown import event_body
from volplug.volumes.events import EventBatch, EventFilter, EventLog

KEEP_ALIVE_S: Final = 30.0  # proxies close what is silent for a minute
_BATCH: Final = 20  # events; with the buffer, what a client that does not read leaves in memory
_BUFFER_BYTES: Final = 8 * 1024
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_LOST: Final = "event: lost\ndata: {}\n"


class Waiting:
    """The requests that wait: they are bounded in number, and end when the server stops.

    Args:
        limit: How many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def counted(self, request: web.BaseRequest) -> Iterator[None]:
        """Count a request as one that waits; it is cancelled if its client leaves.

        Raises:
            TooManyWaiting: If there are as many as permitted.
        """
        if len(self._tasks) >= self._limit:
            raise TooManyWaiting(f"{self._limit} requests wait for events or operations", "Try again later")
        task = request.task
        self._tasks.add(task)
        try:
            with called_when_lost(request, task.cancel):
                yield
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """Cancel them: their connections are closed without a further answer."""
        for task in self._tasks:
            task.cancel()


async def stream_events(
    call: ReadCall,
    events: EventLog,
    after: str,
    wanted: EventFilter,
    in_text: Callable[[str], str],
    keep_alive_s: float,
) -> web.StreamResponse:
    """Send events as they happen, until the client leaves, or is not permitted to read them any more.

    Args:
        call: The client's request.
        events: All of them.
        after: Cursor behind which to begin.
        wanted: Which of them.
        in_text: Applied to what is sent.
        keep_alive_s: After which silence a comment is sent, and how often it is checked who the client is.
    """
    response = web.StreamResponse(headers={REQUEST_ID: call.request_id, "Cache-Control": "no-store"})
    response.content_type = EVENT_STREAM
    writer = await response.prepare(call.request)
    if writer is None or call.request.transport is None:
        raise ConnectionResetError
    call.request.transport.set_write_buffer_limits(_BUFFER_BYTES)
    clock = asyncio.get_running_loop().time
    checked_s = clock()
    while True:
        if clock() - checked_s >= keep_alive_s:
            checked_s = clock()
            if not await call.is_permitted():
                return response
        try:
            async with asyncio.timeout(keep_alive_s):
                batch = await events.wait(after, wanted, _BATCH)
        except TimeoutError:
            ready = _KEEP_ALIVE
        else:
            after, ready = batch.cursor, in_text(_sent(batch)).encode()
        await response.write(ready)
        await writer.drain()  # until the client has read


def _sent(batch: EventBatch) -> str:
    lost = f"id: {batch.cursor}\n{_LOST}\n" if batch.is_lost else ""
    shown = (
        f"id: {event.event_id}\nevent: {event.kind}\ndata: {event_body(event).model_dump_json()}\n\n"
        for event in batch.events
    )
    return lost + "".join(shown)
