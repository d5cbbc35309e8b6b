"""This machine itself: mounts, the state file, and containers as mount namespaces."""

import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from tests.lab.leftovers import mounted_below
from tests.store.files import damaged
from tests.walks.ground import Container, Memory
from volplug.drivers.base import Driver
from volplug.host.base import Host
from volplug.host.machine import Machine
from volplug.host.threads import DevicePool
from volplug.store.sqlite import SqliteStore
from volplug.volumes.converge_request import Timeouts

# A container's own mount of a volume, which no unmount of ours reaches, and which ends with its input.
_CONTAINER = 'mount --bind "$0" "$1" && echo ready && read end'


class MachineGround:
    """The environment of a real volplug, below one directory; what backends have of their own is missing.

    Attributes:
        boot_id: That of the machine, which changes when the power is lost.
    """

    backend: str
    driver: Driver
    timeouts = Timeouts(release_s=1, quick_release_s=0.3, backend_s=5, poll_s=0.01)
    options: Mapping[str, str] = {"size": "8MiB"}

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inside = directory / "inside"
        self._inside.mkdir()
        self._state = directory / "state.sqlite"
        self.boot_id = str(uuid4())
        self._store: SqliteStore | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._acknowledged: dict[str, list[str]] = {}
        self.mount_root = str(directory / "mounts")
        self.host: Host = Machine(self.mount_root, DevicePool("test", 64, self.backend))

    async def load(self) -> Memory:
        await self.close()
        self._store = SqliteStore(self._state, self.boot_id)
        loaded = await self._store.load()
        return Memory(self._store, loaded.entries, loaded.engine, loaded.operations)

    async def close(self) -> None:
        """Close the state file."""
        if self._store is not None:
            await self._store.close()

    def lose_state(self, dice: random.Random | None) -> None:
        for path in sorted(self._directory.glob("state.sqlite*")):
            content = path.read_bytes()
            path.unlink()  # the killed volplug's open file is not the new one
            if dice is not None:
                path.write_bytes(damaged(content, dice))

    def lose_power(self) -> None:
        for mount_id in list(self._running):
            self._end(mount_id)
        for place in mounted_below(self._directory):
            subprocess.run(["umount", place], check=True, capture_output=True)
        self.boot_id = str(uuid4())

    def device_at(self, name: str) -> str:
        target = f"{self.mount_root}/{name}"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        sources = [line.partition(" - ")[2].split()[1] for line in lines if line.split()[4] == target]
        return sources[-1] if sources else ""

    def begin(self, container: Container) -> str:
        """Hold the volume in a mount namespace of the container's own, read its records, write one more."""
        path = Path(self.mount_root) / container.volume / "data"
        volume_id = self.volume_id_of(container.volume)
        self._running[container.mount_id] = process = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", _CONTAINER, path, self._inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        log, acknowledged = path / "log", self._acknowledged.setdefault(volume_id, [])
        found = log.read_text().splitlines() if log.exists() else []
        wrong = "" if found == acknowledged else f"{found} is read where {acknowledged} was written"
        with log.open("a") as file:
            file.write(f"{container.mount_id}\n")
            file.flush()
            os.fsync(file.fileno())
        acknowledged.append(container.mount_id)
        return wrong

    def end(self, container: Container) -> None:
        if container.mount_id in self._running:
            self._end(container.mount_id)

    def _end(self, mount_id: str) -> None:
        self._running.pop(mount_id).communicate()

    def left(self) -> list[str]:
        return [f"{place} is mounted" for place in mounted_below(self._directory)]

    def volume_id_of(self, name: str) -> str:
        """Return an id that differs from that of a later volume of the same name."""
        raise NotImplementedError

    def volumes(self) -> list[str]:
        """Return the names of all volumes."""
        raise NotImplementedError
