"""A simulated EC2 and drivers on its instances, for the tests of the EBS driver."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.ec2sim import Ec2Cloud, Instance
from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.ec2 import Ec2
from volplug.drivers.ebs.errors import Ec2Refused
from volplug.drivers.ebs.instance import HostIdentity
from volplug.drivers.ebs.settings import load_settings
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller
from volplug.errors import BackendUnavailable
from volplug.models import VolumeSpec
from volplug.sizes import GIB

SIZE = 4 * GIB
"""What every type but the throughput-optimised ones comes in."""

SMALLEST_PAGE = 5

IMPATIENT = Ec2Timeouts(
    quiet_s=2.0,
    attaching_s=10.0,
    detach_s=10.0,
    transition_s=10.0,
    search_s=0.05,
    search_pause_s=0.05,
    new_absent_reads=30,
    proof_s=0.01,
    poll_first_s=0.01,
    poll_longest_s=0.04,
)
"""Looks again soon, and does not give up because this machine is busy."""


QUICK = dataclasses.replace(IMPATIENT, quiet_s=0.1, attaching_s=0.4, detach_s=0.3, fence_s=0.3)
"""Gives up in half a second, for tests in which nothing comes."""


def spec_of(name: str = "v", size_bytes: int = SIZE, **driver_options: str) -> VolumeSpec:
    options = {key.replace("_", "-"): value for key, value in driver_options.items()}
    return VolumeSpec(name, size_bytes, driver_options=tuple(sorted(options.items())))


@dataclasses.dataclass
class Repeating:
    """Repeats what got no usable answer as the SDK does, but without its pauses."""

    caller: Caller
    tries: int = 30

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        for number in range(self.tries - 1):
            try:
                return await self._once(action, parameters, was_repeated=number > 0)
            except BackendUnavailable:
                continue
        return await self._once(action, parameters, was_repeated=True)

    async def _once(
        self, action: str, parameters: dict[str, Any], *, was_repeated: bool
    ) -> Mapping[str, Any]:
        try:
            return await self.caller.call(action, **parameters)
        except Ec2Refused as refused:
            raise Ec2Refused(action, refused.code, refused.message, was_repeated=was_repeated) from refused


@dataclasses.dataclass
class SmallPages:
    """Reads lists in the smallest pages that EC2 has, so that a few volumes take several."""

    caller: Caller

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        if "MaxResults" in parameters:
            parameters["MaxResults"] = SMALLEST_PAGE
        return await self.caller.call(action, **parameters)


def settings_of(cloud: Ec2Cloud, instance: Instance, **more: object) -> dict[str, object]:
    """The backend's table of a host that is this instance."""
    return {
        "region": cloud.region,
        "endpoint": cloud.endpoint,
        "imds_endpoint": cloud.imds_endpoint_of(instance.instance_id),
        "access_key": instance.access_key,
        "secret_key": instance.secret_key,
        "session_token": instance.session_token,
        "sys_root": instance.sys_root,
        "dev_root": instance.dev_root,
        **more,
    }


@dataclasses.dataclass
class Settled:
    """Looks only when EC2 has finished what it does and shows the present: a host that comes later."""

    caller: Caller
    cloud: Ec2Cloud

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        if action == "DescribeVolumes":
            await asyncio.to_thread(self.cloud.settle)
            self.cloud.end_stale_reads()
        return await self.caller.call(action, **parameters)


class Site:
    """An instance with its connections to EC2, which all drivers on it share: they know nothing of volumes.

    Args:
        cloud: The simulated EC2.
        instance: One of its instances.
        more: Further settings of the backend.
    """

    def __init__(self, cloud: Ec2Cloud, instance: Instance, **more: object) -> None:
        self.cloud = cloud
        self.instance = instance
        self._table = settings_of(cloud, instance, **more)
        settings = load_settings(BackendConfig("ebs", "unused", "", Path(), self._table), {})
        self._host = HostIdentity(settings)
        self.ec2 = Ec2(settings, self._host)
        self.caller: Caller = self.ec2
        with ThreadPoolExecutor(1) as other:  # a loop of its own, for a test's may run in this thread
            other.submit(asyncio.run, self._host.get()).result()

    def driver(
        self,
        state_dir: Path,
        cluster: str = "test",
        limits: Ec2Timeouts = IMPATIENT,
        caller: Caller | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> EbsDriver:
        """Build a driver with nothing in memory."""
        config = BackendConfig("ebs", "unused", cluster, state_dir, self._table)
        settings = load_settings(config, {})
        return EbsDriver(config, settings, self._host, caller or self.caller, self.ec2, limits, clock)
