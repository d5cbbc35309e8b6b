"""Nodes of a cluster in this process: each has a state directory, a control API, an address for others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from tests.api.serving import Api, ApiReply, unix_client
from tests.api.tls_site import free_port
from tests.volumes.world import World
from volplug.app import build_membership
from volplug.cluster.peers import unverified
from volplug.config import Settings
from volplug.control_server import ControlServer, MembershipBuilder
from volplug.managed import unchanged

_EVENTUALLY_S = 30.0


class Node:
    """One node; may be started again with the same state."""

    def __init__(self, directory: Path, name: str, **settings: Any) -> None:  # noqa: ANN401  # of all types
        self.name = name
        self.state_dir = directory / name
        self.state_dir.mkdir(mode=0o700)
        self.address = settings.pop("cluster_address", f"127.0.0.1:{free_port()}")
        self.settings = Settings(
            node_id=settings.pop("node_id", name),
            state_dir=self.state_dir,
            control_socket=self.state_dir / "c.sock",
            cluster_address=self.address,
            **settings,
        )
        self._world = World()
        self.build: MembershipBuilder = partial(build_membership, self.settings, self._world.service)
        self._running = AsyncExitStack()
        self.api: Api

    @classmethod
    async def made(cls, directory: Path, name: str, **settings: Any) -> "Node":  # noqa: ANN401  # of all types
        """Make one; checking settings may block."""
        return await asyncio.to_thread(partial(cls, directory, name, **settings))

    async def start(self) -> None:
        self.server = ControlServer(
            self.settings,
            self._world.service,
            unchanged,
            is_managed=False,
            build_membership=self.build,
        )
        await self.server.start()
        self._running.push_async_callback(self.server.stop)
        assert self.settings.control_socket is not None
        self.api = await self._running.enter_async_context(unix_client(self.settings.control_socket))

    async def stop(self) -> None:
        await self._running.aclose()

    @property
    def identity(self) -> Path:
        """The file with its key and certificate."""
        return self.state_dir / "cluster" / "node.pem"

    # What an operator does

    async def init(self) -> dict[str, Any]:
        return self._done(await self.api.call("POST", "/v1/cluster"))

    async def token(self) -> dict[str, Any]:
        return self._done(await self.api.call("POST", "/v1/cluster/tokens"))

    async def tries_to_join(self, line: dict[str, Any], **other: str) -> ApiReply:
        body = {key: line[key] for key in ("address", "token", "authority")} | other
        return await self.api.call("POST", "/v1/cluster/join", body)

    async def join(self, line: dict[str, Any]) -> None:
        self._done(await self.tries_to_join(line))

    async def members(self) -> dict[str, Any]:
        """What it knows of each node, by name."""
        return {node["name"]: node for node in (await self.api.ok("/v1/cluster"))["nodes"]}

    async def live(self) -> set[str]:
        return {name for name, node in (await self.members()).items() if node["is_live"]}

    def files(self) -> dict[str, bytes]:
        """Its identity, as files."""
        found = (self.state_dir / "cluster").glob("*")
        return {path.name: path.read_bytes() for path in found}

    @staticmethod
    def _done(reply: ApiReply) -> dict[str, Any]:
        assert reply.status == 200, reply
        body: dict[str, Any] = reply.json
        return body


@asynccontextmanager
async def peer_client(to: Node, shown: Path | None = None) -> AsyncIterator[Api]:
    """A client at a node's address, which may show a certificate."""
    context = await asyncio.to_thread(unverified)
    if shown is not None:
        await asyncio.to_thread(context.load_cert_chain, shown)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Api(session, f"https://{to.address}")


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Start nodes, and stop them in any case."""
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            await node.stop()


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait until an awaited condition is true."""
    try:
        async with asyncio.timeout(_EVENTUALLY_S):
            while not await condition():  # noqa: ASYNC110  # another process, or its watch, fulfils it
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain until {what}") from None
