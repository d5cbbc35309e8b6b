"""Taking volumes from servers that are off, with compute hosts that are killed, on a real OpenStack."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.sites import LIMITS, CinderSite, spec_of
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from volplug.drivers.cinder import CinderDriver
from volplug.errors import VolumeInUse
from volplug.models import HolderState, Volume

pytestmark = [*CINDER, pytest.mark.usefixtures("identified")]

_NUMBERS = count()
_IMPATIENT = dataclasses.replace(LIMITS, transition_s=1.0)


@dataclasses.dataclass(frozen=True)
class Lost:
    """A server that has a volume and is about to be lost.

    Attributes:
        site: The server.
        volume: The volume.
    """

    site: CinderSite
    volume: Volume

    @property
    def node_id(self) -> str:
        return self.site.server.id


Lose = Callable[[], Awaitable[Lost]]


@pytest.fixture
def cluster() -> str:
    return f"takeover-{next(_NUMBERS)}"


@pytest.fixture
def heir(sites: list[CinderSite], cluster: str, tmp_path: Path) -> CinderDriver:
    """The host that wants the volume, with the credentials of a member."""
    return sites[0].driver(tmp_path / "heir", cluster)


@pytest.fixture
def impatient(sites: list[CinderSite], cluster: str, tmp_path: Path) -> CinderDriver:
    """The same, for what will not happen."""
    return sites[0].driver(tmp_path / "heir", cluster, _IMPATIENT)


@pytest.fixture
def administrator(lab: OpenStackLab, sites: list[CinderSite], cluster: str, tmp_path: Path) -> CinderDriver:
    """The same host, with credentials that see host_status."""
    site = CinderSite(lab, sites[0].server, "operator")
    return site.driver(tmp_path / "administrator", cluster)


@pytest.fixture
async def lose(lab: OpenStackLab, cluster: str, heir: CinderDriver, tmp_path: Path) -> AsyncIterator[Lose]:
    """Make servers that have a volume each; they are deleted afterwards."""
    made: list[Lost] = []
    numbers = count()

    async def lose() -> Lost:
        number = next(numbers)
        server = await asyncio.to_thread(lambda: lab.servers.create(f"lost-{number}", node="node2"))
        site = CinderSite(lab, server)
        driver = site.driver(tmp_path / f"lost-{number}", cluster)
        volume = await driver.create(spec_of(f"v{number}"))
        await driver.attach(volume)
        made.append(Lost(site, volume))
        return made[-1]

    yield lose
    await asyncio.to_thread(lab.hosts.start_all)

    async def clean(lost: Lost) -> None:
        await asyncio.to_thread(lab.servers.delete, lost.site.server)
        await heir.detach(lost.volume)
        await heir.wait_settled(lost.volume, 20.0)
        await heir.delete(lost.volume)

    await asyncio.gather(*map(clean, made))


async def test_a_volume_is_taken_from_a_server_that_is_off(
    lab: OpenStackLab, lose: Lose, heir: CinderDriver, administrator: CinderDriver
) -> None:
    lost = await lose()
    for driver in (heir, administrator):
        alive = await driver.holder_state(lost.node_id)
        assert alive.state is HolderState.ALIVE
        with pytest.raises(VolumeInUse, match="not proven dead: Nova reports ACTIVE"):
            await driver.take_from(lost.volume, lost.node_id)
    await asyncio.to_thread(lab.servers.stop, lost.site.server)
    for driver in (heir, administrator):
        dead = await driver.holder_state(lost.node_id)
        assert dead.state is HolderState.DEAD
        assert ("compute host as up" in dead.evidence) == (driver is administrator)
    await heir.take_from(lost.volume, lost.node_id)
    await heir.attach(lost.volume)


async def test_a_fence_stops_the_server(
    lab: OpenStackLab, lose: Lose, heir: CinderDriver, administrator: CinderDriver
) -> None:
    """What a member has stopped, an administrator takes as well."""
    lost = await lose()
    await heir.fence(lost.node_id)
    assert await asyncio.to_thread(lab.servers.status, lost.site.server) == "SHUTOFF"
    await administrator.take_from(lost.volume, lost.node_id)
    await administrator.attach(lost.volume)


async def test_nothing_is_taken_from_servers_of_a_dead_compute_service(
    lab: OpenStackLab,
    lose: Lose,
    heir: CinderDriver,
    impatient: CinderDriver,
    administrator: CinderDriver,
) -> None:
    """At first Nova takes the service for alive, and accepts a detach that only the service could make."""
    off, on = await asyncio.gather(lose(), lose())
    await asyncio.to_thread(lab.servers.stop, off.site.server)
    lab.hosts.kill("node2")
    with pytest.raises(VolumeInUse, match="has not detached it"):
        await impatient.take_from(off.volume, off.node_id)
    await asyncio.to_thread(lab.hosts.miss_reports, "node2")
    assert (await heir.holder_state(on.node_id)).state is HolderState.ALIVE
    for lost in (off, on):
        seen = await administrator.holder_state(lost.node_id)
        assert seen.state is HolderState.UNKNOWN
        assert "its compute host as UNKNOWN, so it may run on" in seen.evidence
        for driver in (impatient, administrator):
            with pytest.raises(VolumeInUse):
                await driver.take_from(lost.volume, lost.node_id)
        with pytest.raises(VolumeInUse):
            await impatient.attach(lost.volume)
    await asyncio.to_thread(lab.hosts.start, "node2")
    await heir.take_from(off.volume, off.node_id)
    await heir.attach(off.volume)


@pytest.mark.slow
async def test_a_detach_that_a_lost_host_does_not_carry_out_ends_with_its_server(
    lab: OpenStackLab, lose: Lose, heir: CinderDriver, impatient: CinderDriver
) -> None:
    """As the error advises; when the host is back after all, it takes the volume from no other server."""
    lost, later = await asyncio.gather(lose(), lose())
    for each in (lost, later):
        await asyncio.to_thread(lab.servers.stop, each.site.server)
    lab.hosts.kill("node2")
    for each in (lost, later):
        with pytest.raises(VolumeInUse) as refused:
            await impatient.take_from(each.volume, each.node_id)
        assert f"openstack server delete {each.node_id}" in refused.value.remedy
    await asyncio.to_thread(lab.hosts.miss_reports, "node2")
    await asyncio.to_thread(lab.servers.delete, lost.site.server)
    await heir.attach(lost.volume)
    await asyncio.to_thread(lab.hosts.start, "node2")
    await heir.take_from(later.volume, later.node_id)  # its detach was queued behind the other one
    (kept,) = [each for each in lab.storage.volumes() if each.id == lost.volume.volume_id]
    assert [each["server_id"] for each in kept.attachments] == [heir.node_id]
    shutil.rmtree(lost.site.server.directory)  # the disks of its guest, which the lost host has left
