"""One volume for one name, for concurrent, later and repeated calls of all hosts."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import IMPATIENT, SIZE, Site, spec_of
from tests.ec2sim import Ec2Cloud
from volplug.drivers.ebs import EbsDriver
from volplug.errors import DeviceNotFound, InvalidRequest, LimitExceeded, VolumeExists
from volplug.sizes import GIB

pytestmark = pytest.mark.ebs

HOUR_S = 3600.0


class Clock:
    """Goes on when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_name_that_was_used_often_elsewhere_is_created_after_one_wait(
    memory_cloud: Ec2Cloud, on_a: EbsDriver, on_b: EbsDriver
) -> None:
    for _ in range(12):
        await on_a.delete(await on_a.create(spec_of()))
    memory_cloud.calls.reset()
    volume = await on_b.create(spec_of())
    assert [each.volume_id for each in memory_cloud.volumes()] == [volume.volume_id]
    counts = memory_cloud.calls.counts()
    looks_of_the_wait = 2  # before it and after it
    polls = 1
    assert (counts["CreateVolume"], counts["DescribeVolumes"]) == (13, 1 + looks_of_the_wait + 11 + polls)


async def test_tokens_are_not_tried_for_ever_but_the_next_create_continues(
    memory_cloud: Ec2Cloud, on_a: EbsDriver, sites: list[Site], tmp_path: Path
) -> None:
    hasty = dataclasses.replace(IMPATIENT, search_s=0.0, tokens_s=0.0)
    on_b = sites[1].driver(tmp_path / "b", limits=hasty)
    for _ in range(2):
        await on_a.delete(await on_a.create(spec_of()))
    for _ in range(2):
        with pytest.raises(LimitExceeded, match="used 1 times recently"):
            await on_b.create(spec_of())
    await on_b.create(spec_of())
    assert len(memory_cloud.volumes()) == 1


async def test_another_volume_that_another_host_has_just_made_is_found_after_used_tokens(
    memory_cloud: Ec2Cloud, on_a: EbsDriver, on_b: EbsDriver
) -> None:
    """Its token is refused as a deleted one's, but not with the same words."""
    for _ in range(3):
        await on_a.delete(await on_a.create(spec_of()))
    assert await on_b.get("v") is None
    # Two looks for the first token, one for each of the next two, and one for that of the volume.
    memory_cloud.set_plan(stale_looks=(5, 5))
    await on_a.create(spec_of(size_bytes=SIZE + GIB))
    with pytest.raises(VolumeExists):
        await on_b.create(spec_of())
    assert len(memory_cloud.volumes()) == 1


async def test_a_day_later_hosts_begin_at_the_same_token_again(
    memory_cloud: Ec2Cloud, sites: list[Site], tmp_path: Path
) -> None:
    clock = Clock()
    on_a, on_b = (site.driver(tmp_path / str(at), clock=clock) for at, site in enumerate(sites))
    await on_a.delete(await on_a.create(spec_of()))
    memory_cloud.forget_tokens()
    clock.now_s += 24 * HOUR_S
    assert (await on_a.get("v"), await on_b.get("v")) == (None, None)
    made = await asyncio.gather(on_a.create(spec_of()), on_b.create(spec_of()))
    assert len({each.volume_id for each in made}) == len(memory_cloud.volumes()) == 1


async def test_the_zone_of_the_settings_is_for_new_volumes_only(
    memory_cloud: Ec2Cloud, sites: list[Site], on_a: EbsDriver, tmp_path: Path
) -> None:
    """Volumes of the instance's own zone can be attached all the same, those of another one cannot."""
    (tmp_path / "sys" / "block" / "sda").mkdir(parents=True)
    roots = {"sys_root": str(tmp_path / "sys"), "dev_root": str(tmp_path / "dev")}
    site = Site(memory_cloud, sites[0].instance, max_retries=1, availability_zone="eu-central-1b", **roots)
    here = await on_a.create(spec_of("here"))
    hasty = dataclasses.replace(IMPATIENT, attaching_s=0.2, quiet_s=0.1, attach_tries=1)
    driver = site.driver(tmp_path / "set", limits=hasty)
    there = await driver.create(spec_of("there"))
    with pytest.raises(
        InvalidRequest, match="in availability zone eu-central-1b, this host in eu-central-1a"
    ):
        await driver.attach(there)
    with pytest.raises(DeviceNotFound):  # it is attached, but this cloud has no disks
        await driver.attach(here)
