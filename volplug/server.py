"""Serves Unix sockets: binds them first, and closes them within Docker's ten seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from weakref import WeakSet

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from volplug.connections import BoundedServer, Bounds, MalformedAnswer
from volplug.engine_peer import EngineProcesses
from volplug.errors import AlreadyRunning, ConfigurationError, HostError
from volplug.models import EngineIdentity

STOP_TIMEOUT_S: Final = 6.0  # Docker kills after 10 s
_HANDLERS_END_S: Final = 2.5  # aiohttp may wait for it twice
_FIRST_INHERITED: Final = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_MAX_SOCKET_PATH: Final = 107  # sun_path less its final NUL, see unix(7)
BACKLOG: Final = 4096  # net.core.somaxconn since Linux 5.4; a burst beyond it is refused with EAGAIN

_BOUNDS: Final = Bounds()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class UnixSocket:
    """A listening Unix socket, bound by this process or inherited from systemd."""

    def __init__(self, listening: socket.socket, owned_path: Path | None) -> None:
        self.listening = listening
        self._owned_path = owned_path
        self._inode = owned_path.stat().st_ino if owned_path else 0

    @property
    def is_ours(self) -> bool:
        """Tell whether this process has bound it, not systemd."""
        return self._owned_path is not None

    @classmethod
    def of_plugin(cls, path: Path) -> UnixSocket:
        """Take over the socket of LISTEN_FDS, or bind our own.

        Raises:
            VolplugError: See `bind`.
        """
        if (inherited := _inherited_socket()) is not None:
            return cls(inherited, None)
        return cls.bind(path, "VOLPLUG_SOCKET")

    @classmethod
    def bind(cls, path: Path, setting: str, gid: int | None = None) -> UnixSocket:
        """Bind a socket for root, or for a group as well; one of a dead process is replaced.

        Raises:
            AlreadyRunning: If another process answers on the path.
            ConfigurationError: If the path is too long.
            HostError: If it cannot be bound, or its path is that of another kind of file.
        """
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise ConfigurationError(
                f"socket path {path} is longer than {_MAX_SOCKET_PATH} bytes", f"Set another {setting}"
            )
        temporary = path.with_name(f".{path.name[:10]}")
        for place in (path, temporary):
            _refuse_if_no_socket(place, setting)
        _refuse_if_served(path, setting)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _make_directory(path.parent)
            temporary.unlink(missing_ok=True)
            listening.bind(str(temporary))
            if gid is not None:
                os.chown(temporary, -1, gid)
            temporary.chmod(0o600 if gid is None else 0o660)
            listening.listen(BACKLOG)
            temporary.rename(path)
        except OSError as error:
            listening.close()
            raise HostError(f"the socket {path} cannot be made: {error.strerror or error}") from error
        return cls(listening, path)

    def close(self) -> None:
        """Stop listening and remove the socket file if it is still the one made by this process."""
        self.listening.close()
        if self._owned_path is not None:
            with contextlib.suppress(OSError):
                if self._owned_path.stat().st_ino == self._inode:
                    self._owned_path.unlink()


def is_socket_inherited() -> bool:
    """Tell whether systemd has passed the socket, on which clients then wait even if it is not served."""
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"


def _inherited_socket() -> socket.socket | None:
    if not is_socket_inherited():
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # for this process, not for its children
    inherited = socket.socket(fileno=_FIRST_INHERITED)
    inherited.setblocking(False)
    os.set_inheritable(inherited.fileno(), False)
    return inherited


def _make_directory(directory: Path) -> None:
    """Make the directory of a socket, which others may enter: what they may use is the socket's to say."""
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # whatever the umask is


def _refuse_if_no_socket(path: Path, setting: str) -> None:
    """Refuse a path that has another kind of file, links included, and leave that unchanged."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise HostError(f"{path} is not a socket", f"Move it away, or set another {setting}")


def _refuse_if_served(path: Path, setting: str) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return
        raise HostError(f"the socket {path} cannot be used: {error.strerror}") from error
    finally:
        probe.close()
    raise AlreadyRunning(f"another process serves {path}", f"Stop it, or set another {setting}")


class EnginePeers:
    """Identifies the engine at the other end of a connection, once per connection."""

    def __init__(self, processes: EngineProcesses) -> None:
        self._processes = processes
        self._seen: WeakSet[asyncio.BaseTransport] = WeakSet()

    def identify(self, request: web.BaseRequest) -> EngineIdentity | None:
        """Return the engine on the first request of its connection, None otherwise."""
        transport = request.transport
        if transport is None or transport in self._seen:
            return None
        self._seen.add(transport)
        peer = transport.get_extra_info("socket")
        return self._processes.identify(peer) if peer is not None else None


class _MalformedRequestFilter(logging.Filter):
    """Shortens aiohttp's log of a malformed request, which has a traceback, to one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.exc_info = None
            record.msg, record.args = f"malformed request refused: {' '.join(error.message.split())}", ()
        return True


_MALFORMED_REQUESTS: Final = _MalformedRequestFilter()  # one: a logger keeps each filter once


class SocketServer:
    """Serves one handler on a socket.

    Args:
        handler: Answers requests.
        bounds: Limits for clients.
        malformed: Answers requests that cannot be parsed; None for aiohttp's plain text.
    """

    def __init__(
        self, handler: Handler, bounds: Bounds = _BOUNDS, malformed: MalformedAnswer | None = None
    ) -> None:
        server_logger.addFilter(_MALFORMED_REQUESTS)
        self.protocol = BoundedServer(handler, bounds, malformed)
        self._runner = web.ServerRunner(self.protocol, handle_signals=False, shutdown_timeout=_HANDLERS_END_S)

    async def start(self, listening: UnixSocket | None = None) -> None:
        """Start accepting connections on a socket; without one, those that are given to `protocol`."""
        await self._runner.setup()
        if listening is not None:
            await web.SockSite(self._runner, listening.listening, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Stop accepting, give calls in progress some seconds to be answered, then close."""
        await self._runner.cleanup()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set the event on SIGTERM and SIGINT; by default, the kernel ignores SIGTERM to PID 1."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
