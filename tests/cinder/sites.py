"""Servers of the lab's OpenStack, and drivers on them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder import CinderDriver
from volplug.drivers.cinder.openstack import Call, OpenStack, OpenStackCaller
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import load_settings
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.errors import BackendUnavailable
from volplug.models import VolumeSpec
from volplug.sizes import GIB
from volplug.steps import OnStep, unannounced

SIZE = GIB
SMALLEST_PAGE = 5

LIMITS = CinderTimeouts(
    quiet_s=1.0,
    attaching_s=20.0,
    detach_s=20.0,
    transition_s=20.0,
    race_s=0.3,
    proof_s=0.2,
    poll_first_s=0.1,
    poll_longest_s=0.3,
)
"""Polls often, and does not give up because this machine is busy."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def spec_of(name: str = "v", size_bytes: int = SIZE, **driver_options: str) -> VolumeSpec:
    options = {key.replace("_", "-"): value for key, value in driver_options.items()}
    return VolumeSpec(name, size_bytes, driver_options=tuple(sorted(options.items())))


class Line:
    """The line of a site to its cloud: it counts calls, can be cut, and reads lists in small pages.

    Attributes:
        is_cut: Whether no call is answered.
        lost: Actions whose next answer does not arrive, although the call was made; and whether the line is
            cut from then on.
        counts: The calls by action.
    """

    def __init__(self, caller: OpenStackCaller) -> None:
        self._caller = caller
        self.is_cut = False
        self.lost: dict[str, bool] = {}
        self.counts: Counter[str] = Counter()

    async def call(self, call: Call) -> Mapping[str, Any]:
        action = f"{call.method} {_ID.sub('ID', call.path)}"
        self.counts[action] += 1
        if self.is_cut:
            raise BackendUnavailable(f"{call.service} did not answer {call.action}: the line is cut")
        if "limit" in call.query:
            call = dataclasses.replace(call, query={**call.query, "limit": str(SMALLEST_PAGE)})
        answer = await self._caller.call(call)
        if action in self.lost:
            self.is_cut = self.lost.pop(action)
            raise BackendUnavailable(f"{call.service} did not answer {call.action}: the answer was lost")
        return answer


class CinderSite:
    """A server with its connections to OpenStack, which all drivers on it share: no memory of volumes.

    Args:
        lab: The cloud.
        server: One of its servers.
        cloud: The entry of clouds.yaml that the driver uses.
        more: Further settings of the backend.
    """

    def __init__(self, lab: OpenStackLab, server: Server, cloud: str = "demo", **more: object) -> None:
        self.server = server
        table = {
            "cloud": cloud,
            "clouds_file": str(lab.clouds_yaml),
            "region_name": "RegionOne",
            "sys_root": server.sys_root,
            "dev_root": server.dev_root,
            "max_retries": 2,
            **more,
        }
        self._table = table
        self._settings = load_settings(BackendConfig("cinder", "unused", "", Path(), table), {})
        self.openstack = OpenStack(self._settings)
        self.line = Line(self.openstack)
        self.host = ThisServer(self._settings, self.line)

    def driver(
        self,
        state_dir: Path,
        cluster: str,
        limits: CinderTimeouts = LIMITS,
        on_step: OnStep = unannounced,
    ) -> CinderDriver:
        config = BackendConfig("cinder", "unused", cluster, state_dir, self._table, on_step)
        return CinderDriver(config, self._settings, self.host, self.line, self.openstack, limits)
