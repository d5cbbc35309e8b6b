"""A server on each of the two hosts of the lab's OpenStack, for the tests of the driver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cinder.sites import CinderSite
from tests.lab.openstack.lab import OpenStackLab


@pytest.fixture(scope="module")
def lab(openstack_lab: OpenStackLab) -> Iterator[OpenStackLab]:
    """The lab with room for many volumes, and empty afterwards."""
    openstack_lab.storage.set_quota(volumes=1000, gigabytes=100_000)
    yield openstack_lab
    openstack_lab.start_over()


@pytest.fixture(scope="module")
def sites(lab: OpenStackLab) -> list[CinderSite]:
    servers = [lab.servers.create(f"host-{node}", node=node) for node in ("node1", "node2")]
    return [CinderSite(lab, server) for server in servers]


@pytest.fixture
async def identified(sites: list[CinderSite]) -> None:
    """Have each host know its server, as after its first call."""
    for site in sites:
        await site.host.get()
        site.line.counts.clear()
