"""One OpenStack for all tests of the Cinder driver, with a server on each of its two hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cinder.sites import CinderSite
from tests.lab.openstack.lab import OpenStackLab


@pytest.fixture(scope="session")
def lab() -> Iterator[OpenStackLab]:
    with OpenStackLab() as lab:
        admin = lab.connection("admin")
        identity: Any = admin.identity  # its type has the calls of version 2, too
        demo = identity.find_project("demo", ignore_missing=False)
        admin.block_storage.update_quota_set(demo, volumes=1000, gigabytes=100_000)
        yield lab


@pytest.fixture(scope="session")
def sites(lab: OpenStackLab) -> Iterator[list[CinderSite]]:
    servers = [lab.servers.create(f"host-{node}", node=node) for node in ("node1", "node2")]
    yield [CinderSite(lab, server) for server in servers]
    for server in servers:
        lab.servers.delete(server)


@pytest.fixture(autouse=True)
async def identified(sites: list[CinderSite]) -> None:
    """Have each host know its server, as after its first call."""
    for site in sites:
        await site.host.get()
        site.line.counts.clear()
