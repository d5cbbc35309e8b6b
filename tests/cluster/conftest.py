"""Nodes on a real etcd."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.cluster.nodes import Node, eventually, running
from tests.lab.etcd import Etcd, etcd


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that volplug serves on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def one_etcd() -> Iterator[Etcd]:
    """An etcd of one member, for all tests of a module."""
    with etcd() as made:
        yield made


@pytest.fixture
def directory() -> Iterator[Path]:
    """The path of a socket has to be short."""
    with tempfile.TemporaryDirectory(prefix="volplug") as made:
        yield Path(made)


@pytest.fixture
def cluster(directory: Path) -> str:
    """The name of a cluster that no other test has."""
    return directory.name


@pytest.fixture
async def signer(directory: Path, cluster: str, one_etcd: Etcd) -> AsyncIterator[Node]:
    """A node that is to begin a cluster."""
    node = await Node.made(directory, "node1", cluster=cluster, cluster_etcd=one_etcd.urls)
    async with running(node):
        yield node


@pytest.fixture
async def pair(directory: Path, signer: Node) -> AsyncIterator[tuple[Node, Node]]:
    """Two members; the second one has nothing set."""
    second = await Node.made(directory, "node2")
    async with running(second):
        await second.join(await signer.init())
        await eventually(lambda: _sees_both(signer), "node1 knows both as live")
        await eventually(lambda: _sees_both(second), "node2 knows both as live")
        yield signer, second


async def _sees_both(node: Node) -> bool:
    return await node.live() == {"node1", "node2"}
