"""A proxy between Docker and a plugin that records calls.

The recorder listens where Docker expects the plugin and passes every byte on to the plugin's socket,
unchanged and in both directions, on as many connections as Docker opens. A call is noted before
its last byte is passed on, so it is there when the docker command that caused it has ended.
"""

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNK = 1 << 16
_READY_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Call:
    """One request: `Mount` of /VolumeDriver.Mount, or `Activate`, and its JSON body."""

    verb: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its volume; empty if it has none."""
        return str(self.body.get("Name", ""))


class Calls:
    """The calls that arrived since it was made."""

    def __init__(self, recorded: list[Call]) -> None:
        self._recorded = recorded
        self._start = len(recorded)

    def of(self, verb: str, name: str | None = None) -> list[Call]:
        """The calls of one verb, for one volume if a name is given."""
        return [each for each in self._recorded[self._start :] if _matches(each, verb, name)]

    def changing(self, name: str) -> dict[str, int]:
        """The calls of each verb for a volume, without Get, which Docker sends before every other."""
        verbs = (each.verb for each in self._recorded[self._start :] if each.name == name)
        return dict(Counter(verb for verb in verbs if verb != "Get"))


class Recorder:
    """Proxy between Docker and a plugin while it is entered.

    Attributes:
        calls: every call since the beginning.
    """

    def __init__(self, listen: Path, behind: Path) -> None:
        """Describe a recorder.

        Args:
            listen: its socket for Docker; removed at the end.
            behind: the socket of the plugin.
        """
        self._listen = listen
        self._behind = behind
        self._recorded: list[Call] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.calls = Calls(self._recorded)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_READY_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_READY_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listen.unlink(missing_ok=True)

    def since_now(self) -> Calls:
        """The calls from now on."""
        return Calls(self._recorded)

    async def _start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self._listen)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by _stop; asyncio logs a task that ends so
                await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            await _close(writer)

    async def _serve(self, asks: asyncio.StreamReader, to_docker: asyncio.StreamWriter) -> None:
        """Pass on until either side closes; then close the other side."""
        try:
            answers, to_plugin = await asyncio.open_unix_connection(self._behind)
        except OSError:
            return  # no plugin listens: Docker sees a connection that closes
        ways = {
            asyncio.ensure_future(self._pass_on_asks(asks, to_plugin)),
            asyncio.ensure_future(_pass_on(answers, to_docker)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _close(to_plugin)

    async def _pass_on_asks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unread = b""
        while data := await reader.read(_CHUNK):
            unread += data
            for call, length in _requests_in(unread):
                self._recorded.append(call)
                unread = unread[length:]
            writer.write(data)
            await writer.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _requests_in(data: bytes) -> Iterator[tuple[Call, int]]:
    """Yield the complete requests at the beginning of the data, each with its length in bytes."""
    while (end_of_head := data.find(b"\r\n\r\n")) >= 0:
        head, begin = data[:end_of_head], end_of_head + 4
        length = _CONTENT_LENGTH.search(head)
        end = begin + (int(length[1]) if length else 0)
        if len(data) < end:
            return
        path = head.split(b" ", 2)[1].decode()
        body = data[begin:end].strip()
        yield Call(path.rpartition(".")[2], json.loads(body) if body else {}), end
        data = data[end:]


def _matches(call: Call, verb: str, name: str | None) -> bool:
    return call.verb == verb and name in (None, call.name)
