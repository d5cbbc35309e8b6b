"""Detaches whose end this process does not hear of, and what must not be taken for one."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import IMPATIENT, Site, spec_of
from tests.ec2sim import Ec2Cloud, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.volumes import Caller
from volplug.errors import BackendDenied, BackendUnavailable, HostError, VolumeInUse
from volplug.models import BlockDevice, Volume, VolumeState
from volplug.testing.conformance.calls import located

pytestmark = [pytest.mark.loop, pytest.mark.ebs]


@pytest.fixture(scope="module")
def hosts(loop_cloud: Ec2Cloud) -> list[Site]:
    """One instance, whose lost answers are not asked for again."""
    return [Site(loop_cloud, loop_cloud.add_instance("i-0000000000000000a"), max_retries=0)]


@pytest.fixture(scope="module")
def xen(loop_cloud: Ec2Cloud) -> Site:
    return Site(loop_cloud, loop_cloud.add_instance("i-0000000000000000c", kind="xen"), max_retries=0)


@pytest.fixture
async def volume(driver: EbsDriver) -> Volume:
    """One that is attached."""
    volume = await driver.create(spec_of())
    await driver.attach(volume)
    return volume


def attachment_of(cloud: Ec2Cloud, volume: Volume) -> str:
    fact = cloud.volume(volume.volume_id)
    assert fact is not None
    return fact.attachment.status if fact.attachment else ""


async def detach_by_hand(site: Site, volume: Volume) -> None:
    """Detach as an operator does, without the driver's knowledge."""
    await site.caller.call("DetachVolume", VolumeId=volume.volume_id)


LONG_S = 30.0


async def settled(driver: EbsDriver, volume: Volume) -> Volume:
    """The volume once it is in no transition any more; what the core waits for before it attaches."""
    found = await driver.wait_settled(volume, LONG_S)
    assert found is not None
    return found


@pytest.mark.parametrize(("fault", "state"), [("closed", "available"), ("dropped", "in-use")])
async def test_detach_without_an_answer_continues_unless_ec2_did_not_begin(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume, fault: str, state: str
) -> None:
    cloud.set_plan(detaching=Slow(looks=4), script={"DetachVolume": [fault]})
    with pytest.raises(BackendUnavailable):
        await driver.detach(volume)
    assert (await settled(driver, volume)).state == state
    await driver.attach(volume)
    assert attachment_of(cloud, volume) == "attached"


async def test_detach_that_takes_too_long_can_be_waited_for(
    cloud: Ec2Cloud, site: Site, cluster: str, tmp_path: Path, volume: Volume
) -> None:
    impatient = dataclasses.replace(IMPATIENT, detach_s=0.2, poll_first_s=0.15)
    driver = site.driver(tmp_path / "other", cluster, impatient)
    cloud.set_plan(detaching=Slow(looks=3))
    with pytest.raises(VolumeInUse, match="still being detached"):
        await driver.detach(volume)
    assert await driver.wait_settled(volume, 0.01) is None
    assert (await settled(driver, volume)).state is VolumeState.AVAILABLE
    await driver.attach(volume)
    assert attachment_of(cloud, volume) == "attached"


async def test_detach_ends_when_the_disk_has_gone_and_ec2_says_so(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    """Or a deletion that follows would be refused."""
    cloud.set_plan(detaching=Slow(0.1))
    await driver.detach(volume)
    assert attachment_of(cloud, volume) == ""
    cloud.calls.reset()
    await driver.delete(volume)
    assert cloud.calls.counts() == {"DeleteVolume": 1}


async def test_detach_that_ec2_refuses_is_not_waited_for(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_plan(denied=frozenset({"DetachVolume"}))
    with pytest.raises(BackendDenied):
        await driver.detach(volume)
    cloud.calls.reset()
    await driver.attach(volume)
    assert cloud.calls.counts() == {}


async def test_operators_detach_is_shown_right_after_our_attach(
    cloud: Ec2Cloud, site: Site, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_plan(detaching=Slow(looks=10))
    await detach_by_hand(site, volume)
    shown = await driver.get(volume.name)
    assert shown is not None
    assert shown.state is VolumeState.DETACHING


async def test_volume_that_ec2_calls_busy_is_being_detached(
    cloud: Ec2Cloud, site: Site, driver: EbsDriver, volume: Volume
) -> None:
    cloud.set_plan(busy_volumes=frozenset({volume.volume_id}))
    await detach_by_hand(site, volume)
    cloud.settle()
    assert attachment_of(cloud, volume) == "busy"
    shown = await driver.get(volume.name)
    assert shown is not None
    assert shown.state is VolumeState.DETACHING


async def source_of(driver: EbsDriver, volume: Volume) -> BlockDevice:
    source = await located(driver, volume)
    assert isinstance(source, BlockDevice)
    return source


async def test_disk_whose_node_is_missing_cannot_be_tested_and_is_kept(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    node = Path((await source_of(driver, volume)).device)
    hidden = node.rename(node.with_suffix(".hidden"))
    with pytest.raises(HostError, match="cannot be tested"):
        await driver.detach(volume)
    assert cloud.calls.counts()["DetachVolume"] == 0
    hidden.rename(node)
    await driver.detach(volume)
    assert attachment_of(cloud, volume) == ""


async def test_disk_whose_node_is_another_disks_cannot_be_tested_and_is_kept(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    node = Path((await source_of(driver, volume)).device)
    hidden = node.rename(node.with_suffix(".hidden"))
    os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(7, 1_000_000))
    with pytest.raises(HostError, match="cannot be tested"):
        await driver.detach(volume)
    assert cloud.calls.counts()["DetachVolume"] == 0
    hidden.replace(node)


async def test_disk_that_contradicts_the_record_is_tested_before_it_is_detached(
    cloud: Ec2Cloud, driver: EbsDriver, volume: Volume
) -> None:
    resized = dataclasses.replace(volume, size_bytes=2 * volume.size_bytes)
    holding = os.open((await source_of(driver, volume)).device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(VolumeInUse):
            await driver.detach(resized)
        assert cloud.calls.counts()["DetachVolume"] == 0
    finally:
        os.close(holding)
    await driver.detach(resized)
    assert attachment_of(cloud, volume) == ""


async def test_disk_without_a_note_is_identified_by_the_name_that_ec2_reports(
    cloud: Ec2Cloud, site: Site, xen: Site, cluster: str, tmp_path: Path
) -> None:
    """As after a crash on Xen, where disks have no serial."""
    driver = xen.driver(tmp_path / "one", cluster, caller=site.caller)
    volume = await driver.create(spec_of())
    await driver.attach(volume)
    without_notes = xen.driver(tmp_path / "other", cluster, caller=site.caller)
    assert await located(without_notes, volume) is None
    await without_notes.detach(volume)
    assert attachment_of(cloud, volume) == ""


class BlindAfterDetach:
    """An EC2 whose first looks after a detach show nothing."""

    def __init__(self, caller: Caller, looks: int) -> None:
        self._caller = caller
        self._looks = looks
        self._is_detached = False

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        if action == "DescribeVolumes" and self._is_detached and self._looks:
            self._looks -= 1
            return {"Volumes": []}
        self._is_detached = self._is_detached or action == "DetachVolume"
        return await self._caller.call(action, **parameters)


async def test_read_that_shows_nothing_does_not_end_a_detach(
    cloud: Ec2Cloud, site: Site, cluster: str, tmp_path: Path, volume: Volume
) -> None:
    """This host does not show the disk, so that EC2's word is all there is."""
    (tmp_path / "sys" / "block" / "sda").mkdir(parents=True)
    diskless = Site(cloud, site.instance, max_retries=0, sys_root=str(tmp_path / "sys"))
    driver = diskless.driver(tmp_path / "other", cluster, caller=BlindAfterDetach(site.caller, looks=2))
    cloud.set_plan(detaching=Slow(looks=3))
    await driver.detach(volume)
    assert attachment_of(cloud, volume) == ""
