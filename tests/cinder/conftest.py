"""A server on each of the two hosts of the lab's OpenStack, which all modules here share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.plugins import ServerPlugin
from tests.cinder.sites import CinderSite
from tests.lab.fork_server import ForkServer
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from tests.served.conftest import local_machine
from volplug.testing.conformance.calls import CHANGES

_CLUSTERS = count()
_HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def servers(openstack_lab: OpenStackLab) -> Iterator[tuple[Server, Server]]:
    """A server on each host, one with virtio-blk and one with virtio-scsi."""
    servers = openstack_lab.servers
    made = servers.create("a", node="node1"), servers.create("b", node="node2", bus="scsi")
    yield made
    openstack_lab.empty()
    for each in made:
        servers.delete(each)


@pytest.fixture(scope="module")
def lab(openstack_lab: OpenStackLab, servers: tuple[Server, Server]) -> Iterator[OpenStackLab]:
    """The lab with room for many volumes, and without any afterwards."""
    openstack_lab.storage.set_quota(volumes=1000, gigabytes=100_000)
    yield openstack_lab
    openstack_lab.empty()


@pytest.fixture(scope="module")
def sites(lab: OpenStackLab, servers: tuple[Server, Server]) -> list[CinderSite]:
    return [CinderSite(lab, server) for server in servers]


@pytest.fixture
async def identified(sites: list[CinderSite]) -> None:
    """Have each host know its server, as after its first call."""
    for site in sites:
        await site.host.get()
        site.line.counts.clear()


# Cases of the shared suite that take seconds here, each with what shows the same on Cinder in less time.
_SLOW = (
    "test_life_cycle_can_be_repeated",  # life cycles at once, and a deleted volume's name that is used again
    "test_volumes_are_created_concurrently",  # life cycles at once
    "test_volumes_are_attached_concurrently",  # life cycles at once, and two volumes with data of their own
    # A cancellation after 3 turns; until then a call has only begun its first request.
    "test_cancelled_creation_leaves_one_volume_or_none[1]",
    "test_cancelled_creation_leaves_one_volume_or_none[2]",
    *(f"test_cancelled_change_can_be_made_again[{change}-{turns}]" for change in CHANGES for turns in (1, 2)),
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark them."""
    if item.path.parent == _HERE and item.name in _SLOW:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer(driver="cinder") as server:
        yield server


NewPlugin = Callable[..., ServerPlugin]


@pytest.fixture(scope="module")
def new_plugin(lab: OpenStackLab, sites: list[CinderSite], fork_server: ForkServer) -> Iterator[NewPlugin]:
    """Describe a volplug on one of the two servers, of the module's cluster; it ends with the module."""
    cluster = f"plugins-{next(_CLUSTERS)}"
    with ExitStack() as stack:

        def new(number: int = 0, cloud: str = "demo") -> ServerPlugin:
            machine = stack.enter_context(local_machine(fork_server))
            plugin = ServerPlugin(lab, sites[number].server, machine, cluster, cloud)
            stack.callback(plugin.process.kill)
            return plugin

        yield new
