"""This machine with datasets of a pool."""

from pathlib import Path

from tests.drivers.zfs.volumes import driver_of, never_fresh
from tests.lab.waiting import WaitTimeoutError, wait_until
from tests.lab.zfs import ZfsPool
from tests.walks.ground import Memory
from tests.walks.machine_ground import MachineGround
from volplug.drivers.zfs.attachments import Attachments

_SNAPSHOT = "by-hand"
_LAG_S = 5.0


class ZfsGround(MachineGround):
    """Datasets of one parent.

    Attributes:
        snapshots: Those that were made by hand, by the names of their volumes.
    """

    backend = "tank"

    def __init__(self, directory: Path, pool: ZfsPool) -> None:
        super().__init__(directory)
        self._zfs = pool.zfs
        self._parent = pool.new_parent()
        self.snapshots: set[str] = set()

    async def load(self) -> Memory:
        # What a process has read ends with it.
        self.driver = driver_of(self._parent, self._directory, never_fresh(), boot_id=self.boot_id)
        return await super().load()

    def left(self) -> list[str]:
        noted = Attachments(self._directory / "attached", self.boot_id).now().notes.values()
        return super().left() + [f"{name} is attached" for name in noted]

    def volumes(self) -> list[str]:
        return sorted(name.rpartition("/")[2] for name in self._listed("filesystem")[1:])

    def volume_id_of(self, name: str) -> str:
        return self._zfs.zfs("get", "-H", "-p", "-o", "value", "guid", self._dataset(name)).strip()

    def destroy(self) -> bool:
        """Destroy all volumes, which nothing uses any more; tell whether that was possible.

        zfs-fuse hears of the end of mounts a little later.
        """
        destroy = ["zfs", "destroy", "-r", self._parent]
        try:
            wait_until(lambda: self._zfs.run(destroy).returncode == 0, _LAG_S, "all is destroyed")
        except WaitTimeoutError:
            return False
        return True

    # By hand

    def set_quota(self, name: str) -> None:
        """Give a volume another size."""
        if name in self.volumes():
            self._zfs.zfs("set", "refquota=9M", self._dataset(name))

    def make_snapshot(self, name: str) -> None:
        """Make a snapshot of a volume."""
        if name in self.volumes() and name not in self.snapshots:
            self._zfs.zfs("snapshot", f"{self._dataset(name)}@{_SNAPSHOT}")
            self.snapshots.add(name)

    def destroy_snapshot(self, name: str) -> None:
        """Destroy it."""
        if name in self.snapshots:
            self._zfs.zfs("destroy", f"{self._dataset(name)}@{_SNAPSHOT}")
            self.snapshots.remove(name)

    def lost_snapshots(self) -> list[str]:
        """Return the snapshots made by hand that are gone."""
        there = self._listed("snapshot")
        wanted = [f"{self._dataset(name)}@{_SNAPSHOT}" for name in self.snapshots]
        return [name for name in wanted if name not in there]

    def _dataset(self, name: str) -> str:
        return f"{self._parent}/{name}"

    def _listed(self, kind: str) -> list[str]:
        return self._zfs.zfs("list", "-H", "-r", "-t", kind, "-o", "name", self._parent).splitlines()
