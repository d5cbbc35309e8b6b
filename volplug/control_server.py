"""Serves the control API: always on a Unix socket, on TCP with TLS if that is configured, and to other nodes.

Docker's calls come first: what cannot be bound or read is an error in the log, and volplug serves without it.
Nothing of the API is imported before its first request.
"""

from __future__ import annotations

import asyncio
import grp
import resource
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from volplug.config import Settings
from volplug.connections import Bounds
from volplug.control_tls import TlsListener
from volplug.errors import ConfigurationError, HostError, VolplugError
from volplug.handlers.control.access import (
    Admit,
    PeerAccess,
    TcpAccess,
    admit_local,
    read_access_file,
    tls_context,
)
from volplug.handlers.control.errors import malformed_answer
from volplug.host.reread import FromFiles
from volplug.host.threads import Pool
from volplug.managed import HostPaths
from volplug.server import BACKLOG, Handler, SocketServer, UnixSocket
from volplug.volumes.service import VolumeService

if TYPE_CHECKING:
    from volplug.cluster.membership import ClusterListener, Membership
    from volplug.handlers.control.stream import Waiting

_LOG = structlog.get_logger(__name__)
_CONNECTIONS: Final = 1200  # of each listener
_PARTS: Final = 4  # each listener may use one of the process's descriptors; Docker's calls need the others
_WAITING_OF_CONNECTIONS: Final = (5, 6)  # the others stay for requests that are answered at once


MembershipBuilder = Callable[["ClusterListener"], "Membership"]


class LazyHandler:
    """Builds a handler on the first request, in a thread: importing what it needs takes a while.

    Args:
        pool: Has the thread.
        build: Imports and builds.
    """

    def __init__(self, pool: Pool, build: Callable[[], tuple[Handler, Waiting]]) -> None:
        self._pool = pool
        self._build = build
        self._building: asyncio.Future[tuple[Handler, Waiting]] | None = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; raises what building raises."""
        if self._building is None:
            self._building = self._pool.submit(self._build)
        building = self._building
        try:
            handler, _ = await asyncio.shield(building)
        except Exception:
            if self._building is building:  # it may have lacked a descriptor or memory: the next tries again
                self._building = None
            raise
        return await handler(request)

    def end_waiting(self) -> None:
        """End the requests that wait for something to happen."""
        if self._building is not None and self._building.done() and not self._building.exception():
            self._building.result()[1].end()


class ControlServer:
    """The listeners of the control API.

    Args:
        settings: Where and for whom.
        volumes: The core.
        as_on_host: Replaces paths of this process by those of the host, in what clients read.
        is_managed: Whether this process is a managed plugin.
        build_membership: Imports and builds this host's membership in a cluster; None for no part in any.
    """

    def __init__(
        self,
        settings: Settings,
        volumes: VolumeService,
        as_on_host: HostPaths,
        *,
        is_managed: bool,
        build_membership: MembershipBuilder | None = None,
    ) -> None:
        self._settings = settings
        self._volumes = volumes
        self._as_on_host = as_on_host
        self._is_managed = is_managed
        self._pool = Pool("control", 1)
        self._bounds = Bounds(connections=_connections())
        self._unix: UnixSocket | None = None
        self._tcp: TlsListener | None = None
        self._handlers: list[LazyHandler] = []
        self._servers: list[SocketServer] = []
        self._build_membership = build_membership
        self._building_membership: asyncio.Future[Membership] | None = None
        self._membership: Membership | None = None
        self._cluster: TlsListener | None = None

    async def start(self) -> None:
        """Start to listen where that is possible."""
        starts = {self._start_unix: "control API not served"}
        if self._settings.control_listen:
            starts[self._start_tcp] = "control API not served"
        if self._build_membership is not None:
            starts[self._start_membership] = "no part in the cluster"
        for start, failure in starts.items():
            try:
                await start()
            except (VolplugError, OSError) as error:
                _LOG.error(failure, error=str(error))

    async def stop(self) -> None:
        """Stop accepting, end the requests that wait, give the others some seconds to be answered."""
        if self._membership is not None:
            await self._membership.stop()
        await self.close_cluster()
        if self._tcp is not None:
            await self._tcp.close()
        for handler in self._handlers:
            handler.end_waiting()
        await asyncio.gather(*(server.stop() for server in self._servers))
        if self._unix is not None:
            await self._pool.blocking(self._unix.close)

    async def _start_unix(self) -> None:
        path = self._settings.resolved_control_socket(is_managed=self._is_managed)
        self._unix = await self._pool.blocking(_bound_unix, path, self._settings.control_group)
        await self._server(admit_local).start(self._unix)

    async def _start_tcp(self) -> None:
        settings = self._settings
        cert, key, access = settings.control_cert, settings.control_key, settings.control_access
        if cert is None or key is None or access is None:
            raise ConfigurationError("control_listen lacks certificate, key or access file")
        ca = settings.control_client_ca
        files = [cert, key, *([ca] if ca else [])]
        context = FromFiles(self._pool, files, partial(tls_context, cert, key, ca))
        lines = FromFiles(self._pool, [access], partial(read_access_file, access))
        await context.current()
        listening = await self._pool.blocking(_bound_tcp, *settings.control_address)
        server = self._server(TcpAccess(lines, settings.resolved_control_names).admit)
        await server.start()
        self._tcp = TlsListener(listening, server.protocol, context)
        _LOG.info("control API served on TCP", address=settings.control_listen)

    async def _start_membership(self) -> None:
        if await self._pool.blocking(_has_identity, self._settings.state_dir):
            await (await self.membership()).start()

    async def membership(self) -> Membership:
        """Return this host's membership in a cluster, which is built when it is first needed."""
        if self._membership is None:
            build = self._build_membership
            assert build is not None  # noqa: S101  # else nothing calls this
            if self._building_membership is None:
                self._building_membership = self._pool.submit(build, self)
            self._membership = await asyncio.shield(self._building_membership)
        return self._membership

    async def open_cluster(
        self, address: tuple[str, int], node: Path, authority: Path, may_show: Callable[[str, str], bool]
    ) -> None:
        """Listen for other nodes; see `ClusterListener`."""
        context = FromFiles(self._pool, [node, authority], partial(tls_context, node, node, authority))
        await context.current()
        listening = await self._pool.blocking(_bound_tcp, *address)
        server = self._server(PeerAccess(may_show).admit)
        await server.start()
        self._cluster = TlsListener(listening, server.protocol, context)
        _LOG.info("cluster served", address="{}:{}".format(*address))

    async def close_cluster(self) -> None:
        """Accept no other nodes any more; those that are connected are refused."""
        if self._cluster is not None:
            await self._cluster.close()
        self._cluster = None

    def _server(self, admit: Admit) -> SocketServer:
        handler = LazyHandler(self._pool, partial(self._build, admit))
        server = SocketServer(handler, self._bounds, malformed_answer)
        self._handlers.append(handler)
        self._servers.append(server)
        return server

    def _build(self, admit: Admit) -> tuple[Handler, Waiting]:
        from volplug.handlers.control.handler import ControlHandler
        from volplug.handlers.control.routes import ControlRoutes
        from volplug.handlers.control.stream import Waiting

        part, of = _WAITING_OF_CONNECTIONS
        waiting = Waiting(self._bounds.connections * part // of)
        membership = self.membership if self._build_membership is not None else None
        routes = ControlRoutes(self._volumes, waiting, self._as_on_host, membership=membership)
        return ControlHandler(routes, admit, as_on_host=self._as_on_host), waiting


def _connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS if soft == resource.RLIM_INFINITY else min(_CONNECTIONS, soft // _PARTS)


def _bound_unix(path: Path, group: str) -> UnixSocket:
    return UnixSocket.bind(path, "VOLPLUG_CONTROL_SOCKET", _group_id(group) if group else None)


def _group_id(group: str) -> int:
    """Return the number of a group, which may be given as such.

    Raises:
        ConfigurationError: If there is none of this name.
    """
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"there is no group {group!r}", "Correct VOLPLUG_CONTROL_GROUP") from None


def _bound_tcp(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this host.

    Raises:
        HostError: If that cannot be done.
    """
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise HostError(f"{host}:{port} cannot be listened on: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


def _has_identity(state_dir: Path) -> bool:
    """Tell whether a host is a member of a cluster, or has keys left of a membership. Blocks."""
    return any((state_dir / each).is_dir() for each in ("cluster", ".cluster.new", ".cluster.old"))
