"""Taking volumes from servers that are off, with compute hosts that are killed, on a real OpenStack."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.sites import LIMITS, CinderSite, spec_of
from tests.lab.openstack.lab import OpenStackLab
from volplug.drivers.cinder import CinderDriver
from volplug.errors import VolumeInUse
from volplug.models import HolderState, Volume

pytestmark = [pytest.mark.cinder, pytest.mark.lane("openstack")]

_NUMBERS = count()
_LIMITS = dataclasses.replace(LIMITS, transition_s=4.0)


@dataclasses.dataclass
class Lost:
    """A host that has a volume, and the host that wants it.

    Attributes:
        lab: The cloud.
        site: The lost host's.
        volume: The volume.
        heir: The driver of the other host.
        as_administrator: The same, with credentials that see host_status.
    """

    lab: OpenStackLab
    site: CinderSite
    volume: Volume
    heir: CinderDriver
    as_administrator: CinderDriver

    @property
    def node_id(self) -> str:
        return self.site.server.id


@pytest.fixture(scope="module")
def lost_site(lab: OpenStackLab) -> Iterator[CinderSite]:
    server = lab.servers.create("lost", node="node2")
    yield CinderSite(lab, server)
    lab.servers.delete(server)


@pytest.fixture
async def lost(
    lab: OpenStackLab, sites: list[CinderSite], lost_site: CinderSite, tmp_path: Path
) -> AsyncIterator[Lost]:
    cluster = f"takeover-{next(_NUMBERS)}"
    holder = lost_site.driver(tmp_path / "lost", cluster, _LIMITS)
    volume = await holder.create(spec_of())
    await holder.attach(volume)
    administrator = CinderSite(lab, sites[0].server, "operator")
    yield Lost(
        lab,
        lost_site,
        volume,
        sites[0].driver(tmp_path / "heir", cluster, _LIMITS),
        administrator.driver(tmp_path / "administrator", cluster, _LIMITS),
    )
    await asyncio.to_thread(lab.hosts.start_all)
    heir = sites[0].driver(tmp_path / "heir", cluster)
    await heir.wait_settled(volume, 20.0)
    await heir.detach(volume)
    await holder.detach(volume)
    await heir.delete(volume)
    if await asyncio.to_thread(lab.servers.status, lost_site.server) != "ACTIVE":
        await asyncio.to_thread(lab.servers.start, lost_site.server)


@pytest.mark.parametrize("is_administrator", [False, True])
async def test_a_volume_is_taken_from_a_server_that_is_off(lost: Lost, is_administrator: bool) -> None:
    driver = lost.as_administrator if is_administrator else lost.heir
    alive = await driver.holder_state(lost.node_id)
    assert alive.state is HolderState.ALIVE
    with pytest.raises(VolumeInUse, match="not proven dead: Nova reports ACTIVE"):
        await driver.take_from(lost.volume, lost.node_id)
    await asyncio.to_thread(lost.lab.servers.stop, lost.site.server)
    dead = await driver.holder_state(lost.node_id)
    assert dead.state is HolderState.DEAD
    assert ("compute host as up" in dead.evidence) == is_administrator
    await driver.take_from(lost.volume, lost.node_id)
    await driver.attach(lost.volume)


async def test_a_fence_stops_the_server(lost: Lost) -> None:
    await lost.heir.fence(lost.node_id)
    assert await asyncio.to_thread(lost.lab.servers.status, lost.site.server) == "SHUTOFF"
    await lost.heir.take_from(lost.volume, lost.node_id)
    await lost.heir.attach(lost.volume)


async def test_a_server_that_is_off_keeps_its_volume_while_its_compute_service_is_dead(lost: Lost) -> None:
    """Nova accepts the detach, as it counts the service as up; then refuses it; and does it in the end."""
    await asyncio.to_thread(lost.lab.servers.stop, lost.site.server)
    lost.lab.hosts.kill("node2")
    with pytest.raises(VolumeInUse, match="has not carried out the detach"):
        await lost.heir.take_from(lost.volume, lost.node_id)
    await asyncio.to_thread(lost.lab.hosts.await_state, "node2", "down")
    seen = await lost.as_administrator.holder_state(lost.node_id)
    assert seen.state is HolderState.UNKNOWN
    assert "its compute host as UNKNOWN, so it may run on" in seen.evidence
    with pytest.raises(VolumeInUse):
        await lost.heir.take_from(lost.volume, lost.node_id)
    with pytest.raises(VolumeInUse):
        await lost.heir.attach(lost.volume)
    await asyncio.to_thread(lost.lab.hosts.start, "node2")
    await lost.heir.take_from(lost.volume, lost.node_id)
    await lost.heir.attach(lost.volume)


async def test_a_server_that_runs_on_a_dead_compute_host_keeps_its_volume(lost: Lost) -> None:
    lost.lab.hosts.kill("node2")
    await asyncio.to_thread(lost.lab.hosts.await_state, "node2", "down")
    assert (await lost.heir.holder_state(lost.node_id)).state is HolderState.ALIVE
    seen = await lost.as_administrator.holder_state(lost.node_id)
    assert seen.state is HolderState.UNKNOWN
    for driver in (lost.heir, lost.as_administrator):
        with pytest.raises(VolumeInUse, match="not proven dead"):
            await driver.take_from(lost.volume, lost.node_id)
