"""The shared suite on a simulated EC2: Nitro and Xen, slow states, faults, and look-ups that show the past.

What an instance is and what EC2 suffers are independent, so two classes show each of them once: an EC2
without faults on Xen, and one with all faults on Nitro. The slow classes are the other combinations.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from tests.drivers.ebs.clouds import SIZE, SMALLEST_PAGE, Repeating, Settled, Site, SmallPages, spec_of
from tests.ec2sim import Ec2Cloud, NewVolume, Slow
from volplug.drivers.base import Driver
from volplug.drivers.cloud.tags import SUBPATH, filesystem_tags
from volplug.drivers.ebs.tags import as_list, tags_of
from volplug.drivers.ebs.volumes import Caller
from volplug.errors import BackendUnavailable
from volplug.models import Volume, VolumeSpec
from volplug.testing.conformance import (
    ClusterConformance,
    DescriptionConformance,
    DriverConformance,
    DuplicateConformance,
    OutageConformance,
    SharedDriverConformance,
)
from volplug.testing.driver_fixtures import (
    Describe,
    DriverFixtures,
    Duplicate,
    Interrupt,
    MakeSpec,
    NewDriver,
    Outage,
)
from volplug.testing.leftovers import Cleanup

pytestmark = [pytest.mark.loop, pytest.mark.ebs, pytest.mark.conformance]

_NUMBERS = count()


@dataclass
class _WithoutAnswer:
    """EC2 creates a volume, and the answer never comes."""

    caller: Caller

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        answer = await self.caller.call(action, **parameters)
        if action == "CreateVolume":
            raise BackendUnavailable("the process has ended")
        return answer


class EbsFixtures(DriverFixtures):
    """One cloud for all tests; each has a cluster and two instances of its own.

    Attributes:
        kind: Of the instances.
        plan: What goes wrong, or is slow, at EC2.
        settings: Of the backends.
        others_come_late: Whether all drivers but the one under test look only when EC2 has finished what it
            does and shows it. What a process without memory is shown it has to believe.
    """

    kind: ClassVar[str] = "nitro"
    plan: ClassVar[dict[str, Any]] = {}
    settings: ClassVar[dict[str, Any]] = {"max_retries": 2}
    others_come_late: ClassVar[bool] = False

    @pytest.fixture
    def cloud(self, loop_cloud: Ec2Cloud) -> Iterator[Ec2Cloud]:
        loop_cloud.set_plan(**self.plan)
        yield loop_cloud
        loop_cloud.end_faults()
        loop_cloud.settle()
        assert loop_cloud.volumes() == [], "left behind at EC2"

    @pytest.fixture(scope="class")
    @classmethod
    def sites(cls, loop_cloud: Ec2Cloud) -> Iterator[list[Site]]:
        ids = [f"i-{next(_NUMBERS):017x}" for _ in range(2)]
        yield [Site(loop_cloud, loop_cloud.add_instance(each, kind=cls.kind), **cls.settings) for each in ids]
        for each in ids:
            loop_cloud.remove_instance(each)

    @pytest.fixture
    def cluster(self) -> str:
        return f"cluster-{next(_NUMBERS)}"

    def caller_of(self, site: Site) -> Caller:
        """Return what the driver under test calls EC2 by."""
        return SmallPages(site.caller)

    def late_caller_of(self, site: Site) -> Caller:
        """Return what all others call EC2 by: restarted drivers, which have no memory, and other hosts."""
        caller = self.caller_of(site)
        return Settled(caller, site.cloud) if self.others_come_late else caller

    @pytest.fixture
    def new_driver(self, cloud: Ec2Cloud, sites: list[Site], cluster: str, tmp_path: Path) -> NewDriver:
        caller = self.late_caller_of(sites[0])
        return lambda: sites[0].driver(tmp_path / "first", cluster, caller=caller)

    @pytest.fixture
    def driver(self, sites: list[Site], cluster: str, cleanup: Cleanup, tmp_path: Path) -> Driver:
        caller = self.caller_of(sites[0])
        return cleanup.track(sites[0].driver(tmp_path / "first", cluster, caller=caller))

    @pytest.fixture
    def second_node(self, cloud: Ec2Cloud, sites: list[Site], cluster: str, tmp_path: Path) -> Driver:
        caller = self.late_caller_of(sites[1])
        return sites[1].driver(tmp_path / "second", cluster, caller=caller)

    @pytest.fixture
    def other_cluster(self, cloud: Ec2Cloud, sites: list[Site], cluster: str, tmp_path: Path) -> Driver:
        caller = self.late_caller_of(sites[1])
        return sites[1].driver(tmp_path / "other", f"{cluster}-other", caller=caller)

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE)

        return make

    @pytest.fixture
    def many(self) -> int:
        return SMALLEST_PAGE + 2

    @pytest.fixture
    def stale_s(self) -> float:
        return 30.0

    @pytest.fixture
    def interrupt_create(
        self, cloud: Ec2Cloud, sites: list[Site], cluster: str, new_driver: NewDriver, tmp_path: Path
    ) -> Interrupt:
        """The process ends while EC2 is creating the volume, which the next one can see."""

        async def interrupt(spec: VolumeSpec) -> None:
            cloud.set_plan(creating=Slow(looks=10))
            caller = _WithoutAnswer(self.caller_of(sites[0]))
            with suppress(BackendUnavailable):
                await sites[0].driver(tmp_path / "first", cluster, caller=caller).create(spec)
            cloud.set_plan(creating=self.plan.get("creating", Slow()))
            await new_driver().get(spec.name)

        return interrupt

    @pytest.fixture
    def outage(self, cloud: Ec2Cloud) -> Outage:
        """Nobody gets an answer."""

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            cloud.set_plan(error_rate=1.0)
            try:
                yield
            finally:
                cloud.set_plan(error_rate=self.plan.get("error_rate", 0.0))

        return outage

    @pytest.fixture
    def describe(self, sites: list[Site], cluster: str) -> Describe:
        """Write the tags as everybody may who has ec2:CreateTags."""
        caller = self.caller_of(sites[1])

        async def describe(volume: Volume, otherwise: Volume) -> None:
            subpath = as_list({SUBPATH: otherwise.subpath})
            tags = [
                *tags_of(otherwise.spec, cluster, {}),
                *as_list(filesystem_tags(otherwise.filesystem)),
                *subpath,
            ]
            tags = list({tag["Key"]: tag for tag in tags}.values())
            await caller.call("CreateTags", Resources=[volume.volume_id], Tags=tags)

        return describe

    @pytest.fixture
    def duplicate(self, cloud: Ec2Cloud, driver: Driver) -> Duplicate:
        """Somebody puts the same tags on another volume, in another zone."""

        async def duplicate(volume: Volume) -> Volume:
            fact = cloud.volume(volume.volume_id)
            assert fact is not None
            made = cloud.add_volumes([NewVolume(fact.tags, fact.size_gib, zone=f"{cloud.region}b")])
            return next(each for each in await driver.list() if each.volume_id in made)

        return duplicate


class Everything(
    DriverConformance,
    SharedDriverConformance,
    ClusterConformance,
    OutageConformance,
    DuplicateConformance,
    DescriptionConformance,
):
    """Every capability."""


SLOW: Final = {
    "latency_s": 0.002,
    "creating": Slow(0.05),
    "attaching": Slow(0.05),
    "detaching": Slow(0.05),
    "deleting": Slow(0.05),
    "device": "before",
}
STALE: Final = {"stale_looks": (2, 5)}
FAULTY: Final = {"throttle_rate": 0.3, "error_rate": 0.1, "lost_answer_rate": 0.05, "closed_rate": 0.02}


class TestEbsOnXen(Everything, EbsFixtures):
    """Nothing goes wrong; disks have no serials."""

    kind = "xen"


class FaultyFixtures(EbsFixtures):
    """EC2 throttles, fails, loses answers and hangs up; repeated calls meet what the lost ones did."""

    plan: ClassVar[dict[str, Any]] = FAULTY
    settings: ClassVar[dict[str, Any]] = {"max_retries": 0}

    def caller_of(self, site: Site) -> Caller:
        return SmallPages(Repeating(site.caller))


class WorstFixtures(FaultyFixtures):
    """All of it at once; the slow classes tell what of it a failure comes from."""

    others_come_late: ClassVar[bool] = True
    plan: ClassVar[dict[str, Any]] = {**SLOW, **FAULTY, **STALE}


class TestEbsAtItsWorst(Everything, WorstFixtures):
    """Disks have serials."""


@pytest.mark.slow
class TestEbsOnXenAtItsWorst(Everything, WorstFixtures):
    """Disks have no serials."""

    kind = "xen"


@pytest.mark.slow
class TestEbs(Everything, EbsFixtures):
    """Nothing goes wrong; disks have serials."""


@pytest.mark.slow
class TestSlowEbs(Everything, EbsFixtures):
    """EC2's states lag behind what it has done."""

    plan: ClassVar[dict[str, Any]] = SLOW
    others_come_late: ClassVar[bool] = True


@pytest.mark.slow
class TestFaultyEbs(Everything, FaultyFixtures):
    """Nothing but that."""


@pytest.mark.slow
class TestStaleEbs(Everything, EbsFixtures):
    """Two to five looks after each change show what was before it; the driver under test knows better."""

    plan: ClassVar[dict[str, Any]] = STALE
    others_come_late: ClassVar[bool] = True
