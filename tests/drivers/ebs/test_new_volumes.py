"""What is remembered of volumes: new ones that EC2 does not show or that others deleted, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import Site, spec_of
from tests.ec2sim import Ec2Cloud, MemoryHypervisor, Slow
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.lookups import Caller, Lookups
from volplug.drivers.ebs.recent import Recent
from volplug.errors import BackendUnavailable

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

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
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
    """Whether a look-up has shown it before or not."""

    async def stays_known(cluster: str, *, is_seen_before: bool) -> None:
        caller = Forgetful(site.caller)
        driver = site.driver(tmp_path / cluster, cluster, caller=caller)
        volume = await driver.create(spec_of())
        if is_seen_before:
            await driver.get("v")
        caller.is_blind = True
        with pytest.raises(BackendUnavailable, match=volume.volume_id):
            await driver.get("v")
        assert await driver.get("another") is None
        assert [each.volume_id for each in await driver.list()] == [volume.volume_id]
        caller.is_blind = False
        assert await driver.get("v") is not None

    await asyncio.gather(
        stays_known(f"{tmp_path.name}-a", is_seen_before=False),
        stays_known(f"{tmp_path.name}-b", is_seen_before=True),
    )


async def test_new_volume_that_ec2_shows_late_is_asked_for_until_it_does(
    cloud: Ec2Cloud, driver: EbsDriver
) -> None:
    cloud.set_plan(stale_looks=(3, 3))
    volume = await driver.create(spec_of())
    found = await driver.get("v")
    assert found is not None
    assert found.volume_id == volume.volume_id
    assert cloud.calls.counts()["DescribeVolumes"] > 2


async def test_new_volume_that_ec2_shows_costs_one_look(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    await driver.create(spec_of())
    cloud.calls.reset()
    assert await driver.get("v") is not None
    assert cloud.calls.counts() == {"DescribeVolumes": 1}


class Nothing:
    """An EC2 without volumes."""

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        return {"Volumes": []}


async def test_names_that_nobody_creates_are_not_remembered() -> None:
    now = 100.0
    lookups = Lookups(Nothing(), "test", "ebs", Recent(lambda: now), lambda: now)
    for number in range(5):
        await lookups.by_name(f"v{number}")
    now += 11
    await lookups.by_name("last")
    assert list(lookups._absent) == ["last"]
    assert lookups.was_absent("last")


def test_volumes_seen_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are asked for again when they are needed; age alone says nothing, for mounts last for weeks."""
    monkeypatch.setattr("volplug.drivers.ebs.lookups._MOST_KNOWN", 3)
    lookups = Lookups(Nothing(), "test", "ebs", Recent(lambda: 0.0), lambda: 0.0)
    for number in (1, 2, 3, 1, 4):
        lookups.note({"VolumeId": f"vol-{number}", "AvailabilityZone": "a", "State": "available"})
    assert [lookups.is_known(f"vol-{number}") for number in (1, 2, 3, 4)] == [True, False, True, True]
