"""A control API served in this process, and a client of it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from volplug.config import Settings
from volplug.control_server import ControlServer
from volplug.managed import unchanged
from volplug.volumes.service import VolumeService


@dataclass(frozen=True)
class ApiReply:
    """An answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # JSON has no type
        return json.loads(self.body)


class Api:
    """A client of the control API."""

    def __init__(self, session: aiohttp.ClientSession, base: str = "http://localhost") -> None:
        self.session = session
        self._base = base

    async def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        """Send a request, its body as JSON, and return the answer."""
        sent: dict[str, Any] = {} if body is None else {"json": body}
        url = URL(f"{self._base}{path}", encoded=True)  # as it is written
        async with self.session.request(method, url, headers=headers, **sent) as answer:
            return ApiReply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **headers: str) -> ApiReply:
        return await self.call("GET", path, headers={key.replace("_", "-"): headers[key] for key in headers})

    async def ok(self, path: str) -> Any:  # noqa: ANN401  # JSON has no type
        """Return what is shown at a path."""
        answer = await self.get(path)
        assert answer.status == 200, answer
        return answer.json

    async def done(self, method: str, path: str, body: object = None, **headers: str) -> Any:  # noqa: ANN401  # JSON has no type
        """Start an operation and return it once it has ended."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        started = await self.call(method, path, body, sent)
        assert started.status == 202, started
        assert started.headers["Location"] == f"/v1/operations/{started.json['id']}"
        return await self.ok(f"{started.headers['Location']}?wait_s=20")


@asynccontextmanager
async def serving(volumes: VolumeService, settings: Settings) -> AsyncIterator[ControlServer]:
    """Serve a core as `volplug serve` does."""
    server = ControlServer(settings, volumes, unchanged, is_managed=False)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def unix_client(socket: Path) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0)) as session:
        yield Api(session)
