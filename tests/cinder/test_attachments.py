"""Attaching and detaching on a real OpenStack: failures on the compute host, crashes, and calls."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from tests.cinder.sites import LIMITS, CinderSite, spec_of
from tests.lab.openstack.faults import Operation
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from volplug.drivers.cinder import CinderDriver
from volplug.errors import BackendUnavailable, HostError, VolumeInUse
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeState
from volplug.testing.conformance.calls import located
from volplug.testing.driver_fixtures import eventually_within

pytestmark = [*CINDER, pytest.mark.usefixtures("identified")]

_NUMBERS = count()
_FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", "0c6f6d3c-9a0b-4f0e-8a4e-111122223333")
_ATTACH = "POST /servers/ID/os-volume_attachments"
_DETACH = "DELETE /servers/ID/os-volume_attachments/ID"
# A compute host that fails does so at once here.
_SOON = dataclasses.replace(LIMITS, quiet_s=0.2, detach_s=10.0)


@pytest.fixture
def cluster() -> str:
    return f"attachments-{next(_NUMBERS)}"


@pytest.fixture
def driver(sites: list[CinderSite], cluster: str, tmp_path: Path) -> CinderDriver:
    return sites[0].driver(tmp_path, cluster, _SOON)


@pytest.fixture
async def volume(lab: OpenStackLab, sites: list[CinderSite], driver: CinderDriver) -> AsyncIterator[Volume]:
    """A volume that was attached and formatted before."""
    made = await driver.create(spec_of())
    yield await driver.tag_filesystem(made, _FORMATTED)
    lab.faults.end(*Operation)
    sites[0].line.is_cut = False
    sites[0].line.lost.clear()
    await driver.detach(made)
    await driver.delete(made)


@pytest.mark.parametrize("lost", [_ATTACH, _DETACH])
async def test_a_lost_answer_does_no_harm(
    sites: list[CinderSite], driver: CinderDriver, volume: Volume, lost: str
) -> None:
    """The line loses the answer once for all, as if all retries had been in vain."""
    sites[0].line.lost[lost] = False
    if lost == _DETACH:
        await driver.attach(volume)
        with pytest.raises(BackendUnavailable):
            await driver.detach(volume)
        await driver.detach(volume)
    else:
        with pytest.raises(BackendUnavailable):
            await driver.attach(volume)
        await driver.attach(volume)
        await driver.detach(volume)
    assert await driver.get(volume.name) == volume


async def test_an_attach_that_the_compute_host_fails_is_reported_and_can_be_repeated(
    lab: OpenStackLab, driver: CinderDriver, volume: Volume
) -> None:
    """Nova reports nothing: the volume is available again."""
    lab.faults.order(Operation.ATTACH_VOLUME, fail=True, once=True)
    with pytest.raises(HostError, match="Nova failed to attach"):
        await driver.attach(volume)
    assert await located(driver, volume) is None
    await driver.attach(volume)


async def test_a_detach_that_the_compute_host_fails_is_reported_and_can_be_repeated(
    lab: OpenStackLab, driver: CinderDriver, volume: Volume
) -> None:
    """Nova reports nothing: the volume is in use again."""
    source = await driver.attach(volume)
    lab.faults.order(Operation.DETACH_VOLUME, fail=True, once=True)
    with pytest.raises(VolumeInUse, match="Nova failed to detach"):
        await driver.detach(volume)
    assert await located(driver, volume) == source
    await driver.detach(volume)
    assert await located(driver, volume) is None


async def test_a_process_that_dies_during_an_attach_is_followed_by_one_that_detaches(
    lab: OpenStackLab,
    sites: list[CinderSite],
    driver: CinderDriver,
    cluster: str,
    volume: Volume,
    tmp_path: Path,
) -> None:
    """The detach waits for the end of the attach."""
    lab.faults.order(Operation.ATTACH_VOLUME, sleep_s=1.0, once=True)
    sites[0].line.lost[_ATTACH] = True
    with pytest.raises(BackendUnavailable):
        await driver.attach(volume)
    sites[0].line.is_cut = False
    again = sites[0].driver(tmp_path, cluster, _SOON)
    await again.detach(volume)
    assert await again.get(volume.name) == volume
    assert await located(again, volume) is None


async def test_another_host_attaches_once_a_detach_has_ended(
    lab: OpenStackLab,
    sites: list[CinderSite],
    driver: CinderDriver,
    cluster: str,
    volume: Volume,
    tmp_path: Path,
) -> None:
    await driver.attach(volume)
    lab.faults.order(Operation.DETACH_VOLUME, sleep_s=0.5, once=True)
    other = sites[1].driver(tmp_path / "other", cluster, _SOON)
    detaching = asyncio.ensure_future(driver.detach(volume))

    async def state() -> object:
        seen = await other.get(volume.name)
        return seen and seen.state

    await eventually_within(10.0)(state, VolumeState.DETACHING)
    settled = await other.wait_settled(volume, 10.0)
    assert settled is not None
    source = await other.attach(settled)
    await detaching
    assert source.size_bytes == volume.size_bytes
    assert await located(driver, volume) is None
    await other.detach(volume)


async def test_every_verb_takes_its_calls_and_no_more(
    sites: list[CinderSite], driver: CinderDriver, volume: Volume
) -> None:
    counts = sites[0].line.counts
    counts.clear()
    await driver.get(volume.name)
    assert dict(counts) == {"GET /volumes/detail": 1}
    counts.clear()
    await driver.attach(volume)
    polls = counts.pop("GET /volumes/ID")
    # Created on this host: before its first attach here, the name is looked up.
    assert dict(counts) == {"GET /volumes/detail": 1, _ATTACH: 1}
    assert 1 <= polls <= 20, "the shared poll, until the attach has ended"
    counts.clear()
    await driver.attach(volume)
    await located(driver, volume)
    assert dict(counts) == {}
    await driver.detach(volume)
    polls = counts.pop("GET /servers/ID/os-volume_attachments")
    assert {key: value for key, value in counts.items() if key != "GET /volumes/ID"} == {_DETACH: 1}
    assert 1 <= polls <= 20, "the shared poll, until Nova has forgotten the attachment"


async def test_a_creation_takes_two_look_ups(sites: list[CinderSite], driver: CinderDriver) -> None:
    counts = sites[0].line.counts
    counts.clear()
    made = await driver.create(spec_of("counted"))
    counts.pop("GET /volumes/ID")  # the shared poll
    assert dict(counts) == {"GET /volumes/detail": 2, "POST /volumes": 1, "GET /os-availability-zone": 1}
    await driver.delete(made)


async def test_a_disk_may_hold_noise_only_in_the_first_attachment_of_an_own_volume(
    sites: list[CinderSite], driver: CinderDriver, cluster: str, tmp_path: Path
) -> None:
    made = await driver.create(spec_of("noisy", blank="unverified"))
    source = await driver.attach(made)
    assert source.may_hold_noise
    assert await located(driver, made) == source
    restarted = sites[0].driver(tmp_path, cluster, _SOON)
    assert not (await restarted.attach(made)).may_hold_noise, "another process knows nothing of it"
    await driver.detach(made)
    assert not (await driver.attach(made)).may_hold_noise
    await driver.detach(made)
    await driver.delete(made)
