"""An HTTP server in threads of its own, which never block the event loops of tests."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiohttp import web

_LOG: Final = logging.getLogger(__name__)
_CALLS_AT_ONCE: Final = 128
_BACKLOG: Final = 256
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answerer = Callable[[HttpRequest], HttpAnswer | None]
"""Answers a request, and may block; None closes the connection without an answer."""


class Listener:
    """Listens at a free port until it is closed.

    Attributes:
        url: Its IP address and port.
    """

    def __init__(self, address: str, answerer: Answerer) -> None:
        self._answerer = answerer
        self._pool = ThreadPoolExecutor(_CALLS_AT_ONCE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ec2-listener", daemon=True)
        self._thread.start()
        self._runner = self._run(self._start(address))
        self.url = f"http://{address}:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        """Stop listening, and end all connections after the answers in progress."""
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, address: str) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, address, 0, backlog=_BACKLOG).start()
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = HttpRequest(request.method, request.path, headers, await request.read())
        try:
            answer = await self._loop.run_in_executor(self._pool, self._answerer, asked)
        except Exception:  # a defect of the cloud must not look like a slow network
            _LOG.exception("%s %s failed", request.method, request.path)
            answer = HttpAnswer(500, b"the simulated EC2 has a defect, see its log")
        if answer is None:
            if request.transport is not None:
                request.transport.close()
            answer = HttpAnswer(500)  # to a connection that is closed
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
