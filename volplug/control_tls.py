"""Accepts TLS connections of the control API: few handshakes at once, each with a deadline.

The servers of asyncio do not bound them, and each takes a descriptor from Docker's calls.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

import structlog

from volplug.connections import BoundedServer
from volplug.host.reread import FromFiles

_LOG = structlog.get_logger(__name__)
_HANDSHAKES: Final = 64
_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 1.0  # for a client's part of the end, before its connection is cut
_PAUSE_S: Final = 1.0  # where no descriptor is left, as in asyncio


class TlsListener:
    """Accepts connections on a TCP socket and hands them to a server.

    Args:
        listening: The socket.
        server: Makes the protocol of each connection.
        context: How TLS is spoken; asked for each connection, since certificates are renewed.
        handshakes: How many may be in progress.
        handshake_s: How long each may take.
    """

    def __init__(
        self,
        listening: socket.socket,
        server: BoundedServer,
        context: FromFiles[ssl.SSLContext],
        handshakes: int = _HANDSHAKES,
        handshake_s: float = _HANDSHAKE_S,
    ) -> None:
        self._listening = listening
        self._server = server
        self._context = context
        self._handshake_s = handshake_s
        self._free = asyncio.Semaphore(handshakes)
        self._tasks = {asyncio.create_task(self._accept())}

    async def close(self) -> None:
        """Stop accepting; handshakes that are not complete are given up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                accepted, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                self._free.release()
                _LOG.warning("connection not accepted", error=str(error))
                await asyncio.sleep(_PAUSE_S)
                continue
            task = asyncio.create_task(self._shake_hands(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._server,
                accepted,
                ssl=await self._context.current(),
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _LOG.debug("handshake failed", error=str(error))
            accepted.close()
        finally:
            self._free.release()
