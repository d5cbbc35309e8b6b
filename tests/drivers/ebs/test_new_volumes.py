"""What is remembered of volumes: new ones that EC2 does not show or that others deleted, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import Site, spec_of
from tests.drivers.ebs.turns import turns_until
from tests.ec2sim import Ec2Cloud, MemoryHypervisor, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.volumes import Caller
from volplug.models import VolumeState

pytestmark = pytest.mark.ebs


@pytest.fixture(scope="module")
def served() -> Iterator[Ec2Cloud]:
    with Ec2Cloud(MemoryHypervisor()) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def site(served: Ec2Cloud) -> Site:
    return Site(served, served.add_instance("i-00000000000000001"), max_retries=0)


@pytest.fixture
def cloud(served: Ec2Cloud) -> Iterator[Ec2Cloud]:
    served.calls.reset()
    yield served
    served.end_faults()


@pytest.fixture
def driver(cloud: Ec2Cloud, site: Site, tmp_path: Path) -> EbsDriver:
    return site.driver(tmp_path / "host", tmp_path.name)


@pytest.fixture
def other(cloud: Ec2Cloud, site: Site, tmp_path: Path) -> EbsDriver:
    """Knows nothing of what `driver` did."""
    return site.driver(tmp_path / "other", tmp_path.name)


class Forgetful:
    """An EC2 that shows nothing, from when a test says so."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.is_blind = False
        self.calls: list[str] = []

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        self.calls.append(action)
        if action != "DescribeVolumes":
            return await self._caller.call(action, **parameters)
        return {"Volumes": []} if self.is_blind else await self._caller.call(action, **parameters)


@pytest.mark.parametrize("is_seen_before", [False, True])
async def test_new_volume_that_another_host_deleted_is_gone(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver, *, is_seen_before: bool
) -> None:
    await driver.create(spec_of())
    if is_seen_before:
        await driver.get("v")
    cloud.set_plan(deleting=Slow(looks=10))
    volume = await other.get("v")
    assert volume is not None
    await other.delete(volume)
    assert await driver.get("v") is None
    assert await driver.list() == []
    cloud.calls.reset()
    assert await driver.get("v") is None
    assert cloud.calls.counts() == {"DescribeVolumes": 1}, (
        "what is known to be deleted is not asked for again"
    )


async def test_list_alone_hears_of_a_deletion_by_another_host(
    cloud: Ec2Cloud, driver: EbsDriver, other: EbsDriver
) -> None:
    volume = await driver.create(spec_of())
    cloud.set_plan(deleting=Slow(looks=10))
    await other.delete(volume)
    assert await driver.list() == []


async def test_new_volume_of_which_ec2_knows_nothing_is_never_called_absent(
    site: Site, cloud: Ec2Cloud, tmp_path: Path
) -> None:
    caller = Forgetful(site.caller)
    driver = site.driver(tmp_path / "host", tmp_path.name, caller=caller)
    volume = await driver.create(spec_of())
    caller.is_blind = True
    assert await driver.get("v") == volume
    assert await driver.get("another") is None
    assert await driver.list() == [volume]


async def test_volume_whose_creation_is_waited_for_is_shown_as_creating(
    site: Site, cloud: Ec2Cloud, tmp_path: Path
) -> None:
    """Whatever look-ups show: another call for its name must not find it absent."""
    caller = Forgetful(site.caller)
    driver = site.driver(tmp_path / "host", tmp_path.name, caller=caller)
    assert await driver.get("v") is None
    cloud.set_plan(creating=Slow(looks=100))
    caller.is_blind = True
    creating = asyncio.create_task(driver.create(spec_of()))
    await turns_until(lambda: caller.calls[-2:] == ["CreateVolume", "DescribeVolumes"])  # a first poll
    shown = await driver.get("v")
    assert shown is not None
    assert shown.state is VolumeState.CREATING
    caller.is_blind = False
    cloud.set_plan(creating=Slow())
    assert (await creating).volume_id == shown.volume_id


async def test_new_volume_that_ec2_shows_late_is_found(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    cloud.set_plan(stale_looks=(3, 3))
    volume = await driver.create(spec_of())
    assert await driver.get("v") == volume


async def test_new_volume_that_ec2_shows_costs_one_look(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    await driver.create(spec_of())
    cloud.calls.reset()
    assert await driver.get("v") is not None
    assert cloud.calls.counts() == {"DescribeVolumes": 1}
