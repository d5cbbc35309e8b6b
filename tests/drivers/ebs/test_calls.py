"""How many calls to EC2 each of Docker's verbs costs, from the core down to a simulated EC2."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.ebs.clouds import Site
from tests.drivers.ebs.services import Host, host_with
from tests.drivers.ebs.turns import turns_until
from tests.ec2sim import Ec2Cloud, MemoryHypervisor, NewVolume, Slow
from tests.lab.waiting import wait_until
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.tags import tags_of
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.models import VolumeSpec
from volplug.sizes import GIB

pytestmark = [pytest.mark.loop, pytest.mark.ebs]

QUICK: dict[str, Slow] = {}
LAG = Slow(0.3)
SLOW = {"creating": LAG, "attaching": LAG, "detaching": LAG, "deleting": LAG}
# A fifth of what is waited in production, so that a state lasts longer than until a first look at it.
_IN_A_FIFTH: dict[str, Any] = {
    name: value / 5 for name, value in dataclasses.asdict(Ec2Timeouts()).items() if isinstance(value, float)
}
PATIENCE = dataclasses.replace(Ec2Timeouts(), **_IN_A_FIFTH)
in_both = pytest.mark.parametrize("cloud", [QUICK, SLOW], ids=["quick", "slow"], indirect=True)
quick_alone = pytest.mark.parametrize("cloud", [QUICK], ids=["quick"], indirect=True)


@pytest.fixture(scope="module")
def hosts(loop_cloud: Ec2Cloud) -> list[Site]:
    return [Site(loop_cloud, loop_cloud.add_instance("i-0000000000000000a", attachment_limit=60))]


@pytest.fixture(params=[pytest.param(QUICK, marks=pytest.mark.slow), SLOW], ids=["quick", "slow"])
def cloud(loop_cloud: Ec2Cloud, request: pytest.FixtureRequest) -> Iterator[Ec2Cloud]:
    """A cloud whose states last, which shows all that a quick one does but what only that skips."""
    loop_cloud.set_plan(**request.param)
    yield loop_cloud
    loop_cloud.start_over()


@pytest.fixture
def driver(site: Site, cluster: str, tmp_path: Path) -> EbsDriver:
    return site.driver(tmp_path / "host", cluster, PATIENCE)


@pytest.fixture
async def host(driver: EbsDriver, tmp_path: Path) -> AsyncIterator[Host]:
    async with host_with(driver, tmp_path / "host") as host:
        yield host


async def together(steps: Iterable[Awaitable[object]]) -> None:
    """Take steps at once; unlike `gather`, not before this is awaited."""
    await asyncio.gather(*steps)


class Calls:
    """Counts the calls of one step after the other."""

    def __init__(self, cloud: Ec2Cloud) -> None:
        self._cloud = cloud

    async def of(self, step: Awaitable[object]) -> Counter[str]:
        """Return the calls of a step that begins when EC2 has finished with the one before."""
        await asyncio.to_thread(self._cloud.settle)
        self._cloud.calls.reset()
        await step
        return Counter(self._cloud.calls.counts())


def cost(calls: Counter[str], most_polls: int) -> Counter[str]:
    """The calls without the polls of a wait, whose number may vary."""
    polls = min(most_polls, max(0, calls["DescribeVolumes"] - 1))
    return calls - Counter({"DescribeVolumes": polls})


@in_both
async def test_every_verb_costs_what_it_must_and_no_more(cloud: Ec2Cloud, host: Host) -> None:
    """Create and the detach wait for states that last less than two polls on an idle machine."""
    calls = Calls(cloud)
    create = await calls.of(host.create("db"))
    assert cost(create, most_polls=3) == {"DescribeVolumes": 1, "CreateVolume": 1}
    first = await calls.of(host.mount("db"))
    assert first == {"DescribeVolumes": 1, "AttachVolume": 1, "CreateTags": 2}
    assert await calls.of(host.use_on("db")) == {}, "what is mounted here is known here"
    detach = await calls.of(host.unmount_and_stop("db"))
    assert cost(detach, most_polls=2) == {"DetachVolume": 1, "DescribeVolumes": 1}
    assert await calls.of(host.mount("db")) == {"DescribeVolumes": 1, "AttachVolume": 1}
    await host.unmount_and_stop("db")
    assert await calls.of(host.service.remove("db")) == {"DescribeVolumes": 1, "DeleteVolume": 1}


async def test_get_and_list_cost_one_call_each(cloud: Ec2Cloud, host: Host) -> None:
    calls = Calls(cloud)
    await host.create("db")
    assert await calls.of(host.service.get("db")) == {"DescribeVolumes": 1}
    assert await calls.of(host.service.list()) == {"DescribeVolumes": 1}
    await host.service.remove("db")


async def test_a_call_that_follows_at_once_waits_for_the_one_before_and_none_is_refused(
    cloud: Ec2Cloud, host: Host
) -> None:
    cloud.calls.reset()
    await host.create("db")
    await host.mount("db")
    await host.unmount_and_stop("db")
    await host.mount("db")
    await host.service.unmount("db", "c1")
    await host.service.remove("db")
    assert [call for call in cloud.calls.log() if call.outcome != "ok"] == []
    look_ups, polls = 4, 2 + 1 + 1
    counts = Counter(cloud.calls.counts())
    assert counts.pop("DescribeVolumes") <= look_ups + polls
    assert counts.pop("CreateTags") == 2
    assert counts == {"CreateVolume": 1, "AttachVolume": 2, "DetachVolume": 2, "DeleteVolume": 1}


def waiting() -> list[str]:
    """Return what polls EC2, or listens to the kernel."""
    tasks = (repr(task) for task in asyncio.all_tasks())
    return [each for each in tasks if "SharedPoll." in each or "DiskWatch." in each or "Batcher." in each]


async def test_nothing_is_asked_and_nothing_listens_while_nothing_happens(
    cloud: Ec2Cloud, host: Host
) -> None:
    await host.create("db")
    await host.mount("db")
    await turns_until(lambda: not waiting())
    await asyncio.to_thread(cloud.settle)
    cloud.calls.reset()
    for _ in range(3):
        await host.use_on("db")
        assert waiting() == []
    assert cloud.calls.counts() == {}
    await host.unmount_and_stop("db")
    await host.service.remove("db")


async def test_volumes_mounted_at_once_share_look_ups_and_are_attached_concurrently(
    cloud: Ec2Cloud, host: Host, driver: EbsDriver
) -> None:
    names = [f"v{number}" for number in range(25)]
    await asyncio.gather(*(driver.create(VolumeSpec(name, GIB)) for name in names))
    calls = Calls(cloud)
    mounted = await calls.of(together(host.mount(name) for name in names))
    assert mounted["AttachVolume"] == 25
    assert mounted["CreateTags"] == 50
    assert mounted["DescribeVolumes"] <= 5
    log = [call for call in cloud.calls.log() if call.action == "AttachVolume"]
    assert {call.outcome for call in log} == {"ok"}, "no name was given twice"
    detached = await calls.of(together(host.unmount_and_stop(name) for name in names))
    assert detached["DetachVolume"] == 25
    assert detached["DescribeVolumes"] <= 5
    await asyncio.gather(*(host.service.remove(name) for name in names))


@quick_alone
async def test_attaches_wait_for_their_disks_concurrently(cloud: Ec2Cloud, driver: EbsDriver) -> None:
    volumes = [await driver.create(VolumeSpec(f"v{number}", GIB)) for number in range(20)]
    await asyncio.to_thread(cloud.settle)
    await driver.list()
    cloud.set_plan(attaching=Slow(looks=1))  # no disk comes before the next look
    cloud.calls.reset()
    attaching = asyncio.gather(*(driver.attach(volume) for volume in volumes))
    sent = partial(wait_until, lambda: cloud.calls.counts()["AttachVolume"] == 20, 20, "all are sent")
    await asyncio.to_thread(sent)
    assert not attaching.done()
    await driver.list()
    assert len({source.device for source in await attaching}) == 20
    assert cloud.calls.counts() == {"AttachVolume": 20, "DescribeVolumes": 1}
    await asyncio.gather(*(driver.detach(volume) for volume in volumes))
    await asyncio.gather(*(driver.delete(volume) for volume in volumes))


async def test_get_among_many_reads_one_and_list_reads_pages(tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(501)]
    with Ec2Cloud(MemoryHypervisor()) as cloud:
        driver = Site(cloud, cloud.add_instance("i-0123456789abcdef0")).driver(tmp_path, "many")
        made = cloud.add_volumes(
            NewVolume({tag["Key"]: tag["Value"] for tag in tags_of(VolumeSpec(name, GIB), "many", {})})
            for name in names
        )
        calls = Calls(cloud)
        assert await calls.of(driver.get("v250")) == {"DescribeVolumes": 1}
        (asked,) = cloud.calls.log()
        assert {"v250", "many"} <= set(asked.parameters.values())
        assert await calls.of(driver.list()) == {"DescribeVolumes": 2}
        assert {volume.volume_id for volume in await driver.list()} == set(made)
        assert await calls.of(together(map(driver.get, names))) == {"DescribeVolumes": 3}
