"""`volplug serve` on servers of the lab, and what each party has of its volumes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.dockerd import Dockerd
from tests.faults.agreement import mounted, recorded
from tests.faults.records import Records
from tests.lab import loops
from tests.lab.cinder import write_settings
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.servers import Server
from tests.lab.plugin import SERVE, VolplugProcess
from tests.lab.waiting import WaitTimeoutError, wait_until
from tests.served.conftest import LocalMachine
from volplug.drivers.cloud.tags import CLUSTER, NAME

_TIMEOUT_S: Final = 30.0
_SETTINGS: Final = {"VOLPLUG_LINGER_S": "0", "VOLPLUG_RELEASE_WAIT_S": "1", "VOLPLUG_MOUNT_GRACE_S": "1"}


class ServerPlugin:
    """A server's volplug.

    Args:
        lab: The cloud.
        server: The server.
        machine: Where volplug runs.
        cluster: Of its volumes.
        cloud: The entry of clouds.yaml with its credentials.

    Attributes:
        cluster: Of its volumes.
        server: The server.
        process: The process.
    """

    def __init__(
        self, lab: OpenStackLab, server: Server, machine: LocalMachine, cluster: str, cloud: str = "demo"
    ) -> None:
        self._lab = lab
        self.cluster = cluster
        self.server = server
        config = machine.directory / "config.toml"
        clouds = str(lab.clouds_yaml)
        write_settings(config, server, cluster, cloud=cloud, clouds_file=clouds, max_retries=2)
        self.process = VolplugProcess(machine, env={"VOLPLUG_CONFIG": str(config), **_SETTINGS})
        self._socket = machine.directory / "p.sock"

    # Docker's calls

    async def ok(self, verb: str, name: str, **body: object) -> Mapping[str, Any]:
        """Make a call that has to succeed."""
        async with Dockerd(self._socket) as dockerd:
            return await dockerd.ok(verb, Name=name, **body)

    async def error(self, verb: str, name: str, **body: object) -> str:
        """Make a call that has to fail, and return the error: one short line."""
        async with Dockerd(self._socket) as dockerd:
            return await dockerd.error(verb, Name=name, **body)

    async def create(self, name: str) -> None:
        """Create a small volume."""
        await self.ok("Create", name, Opts={"size": "1GiB"})

    async def mount(self, name: str) -> Records:
        """Mount a volume for a container, and return its records."""
        return Records(Path((await self.ok("Mount", name, ID=name))["Mountpoint"]))

    async def unmount(self, name: str) -> None:
        """Unmount it; volplug detaches it after the answer."""
        await self.ok("Unmount", name, ID=name)

    async def tried(self, verb: str, name: str, **body: object) -> Mapping[str, Any] | None:
        """Make a call during which volplug may die; return None if it did."""
        async with Dockerd(self._socket) as dockerd:
            try:
                text = json.dumps({"Name": name, **body}).encode()
                reply = await dockerd.raw(f"/VolumeDriver.{verb}", text)
            except OSError:  # it has died already
                return None
        return reply.json if reply is not None else None

    # The process

    def start(self, argv: Sequence[str] = SERVE) -> bool:
        """Start it; return False if it has died while it started."""
        try:
            self.process.start(argv=argv)
        except RuntimeError:
            self.process.kill()
            return False
        return True

    def is_killed(self) -> bool:
        """Tell whether it has killed itself; then it can be started again."""
        if self.process.running:
            return False
        return self.process.kill() == -signal.SIGKILL

    # What is there

    async def settle(self, counts: Mapping[str, int]) -> None:
        """Wait until everything agrees; what does not is the error.

        Args:
            counts: All volumes of the cluster, and how often each is mounted here; no other server has any.
        """
        here = {name for name, number in counts.items() if number}
        expected = {
            "at Cinder": sorted((name, "in-use" if name in here else "available") for name in counts),
            "at Nova": sorted(here),
            "disks": sorted(here),
            "devices": len(here),
            "mounted": sorted(here),
            "counted": {name: number for name, number in counts.items() if number},
            "notes": [],
        }
        seen: dict[str, object] = {}

        def agrees() -> bool:
            seen.update(self._seen(set(counts) - here))
            return seen == expected

        try:
            await asyncio.to_thread(wait_until, agrees, _TIMEOUT_S, "everything agrees")
        except WaitTimeoutError:
            assert seen == expected, self.process.log_tail()

    def _seen(self, unused: Collection[str]) -> Mapping[str, object]:
        all_of_project = self._lab.storage.volumes()
        ours = [each for each in all_of_project if each.metadata.get(CLUSTER) == self.cluster]
        names = {each.id: each.metadata[NAME] for each in ours}
        return {
            "at Cinder": sorted((names[each.id], each.status) for each in ours),
            "at Nova": sorted(names[each] for each in self._lab.servers.volumes(self.server)),
            "disks": sorted(names[each] for each in self.server.disks()),
            "devices": len(loops.attached_below(self._lab.directory / "volumes")),
            "mounted": sorted(mounted(self.process)),
            "counted": recorded(self.process),
            # A volume that was never attached has a note until then.
            "notes": sorted(set(self._notes()) - set(unused)),
        }

    def _notes(self) -> Collection[str]:
        file = self.process.state_dir / "backends" / "cinder.creations.json"
        return json.loads(file.read_text()) if file.exists() else ()
