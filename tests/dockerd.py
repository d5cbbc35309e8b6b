"""A client of the plugin socket that writes bytes as dockerd does.

Captured from dockerd 20.10.24 (an empty Host, no Content-Type); later engines send a Host.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENGINE_20_10 = "Host: \r\n"
ENGINE_26 = "Host: plugin.moby.localhost\r\n"
_REST = "User-Agent: Go-http-client/1.1\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n"


@dataclass(frozen=True)
class Reply:
    """An answer: its status and body as bytes."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        answer = json.loads(self.body)
        assert isinstance(answer, dict)
        return answer

    @property
    def error(self) -> str:
        """The error that Docker shows; KeyError if there is none."""
        text = self.json["Err"]
        assert isinstance(text, str)
        return text


class Dockerd:
    """One persistent connection, as a managed plugin gets it; reconnects after a close."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def hang_up(self) -> None:
        """Close the connection, also during a call."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def send(self, path: str, body: bytes, *, host: str = ENGINE_20_10, method: str = "POST") -> None:
        """Send one request without waiting for the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._socket))
        _, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\n{host}{_REST}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def receive(self) -> Reply | None:
        """Read one answer; None if the connection was closed without one."""
        assert self._streams is not None
        reader, _ = self._streams
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError as error:
            await self.hang_up()
            if error.partial:
                raise
            return None
        except ConnectionError:
            await self.hang_up()
            return None
        lines = head.split("\r\n")
        headers = {
            key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])
        }
        return Reply(int(lines[0].split()[1]), await reader.readexactly(int(headers["content-length"])))

    async def raw(self, path: str, body: bytes, **options: str) -> Reply | None:
        """Send bytes and return the answer, None if there was none."""
        try:
            await self.send(path, body, **options)
        except ConnectionError:  # closed before all of a large body was read
            await self.hang_up()
            return None
        return await self.receive()

    async def call(self, verb: str, **body: object) -> Reply:
        """Call a verb of VolumeDriver, as dockerd encodes it; AssertionError if there is no answer."""
        reply = await self.raw(f"/VolumeDriver.{verb}", json.dumps(body).encode() + b"\n")
        assert reply is not None, f"{verb} was not answered"
        assert reply.status == (500 if reply.json.get("Err") else 200), reply
        return reply

    async def ok(self, verb: str, **body: object) -> dict[str, Any]:
        """Call a verb that has to succeed."""
        answer = (await self.call(verb, **body)).json
        assert not answer.get("Err"), answer
        return answer

    async def error(self, verb: str, **body: object) -> str:
        """Call a verb that has to fail, and return the error."""
        text = (await self.call(verb, **body)).error
        assert len(text) <= 300, text
        assert text.isascii(), text
        assert text.isprintable(), text
        return text
