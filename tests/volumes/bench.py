"""One volume with a backend and a machine in memory, and convergences of it."""

from dataclasses import replace

from tests.volumes.world import IMPATIENT, ROOT, spec_of
from volplug.drivers.memory import MemoryCloud, MemoryDriver, device_of
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec
from volplug.testing.host import Disk, MemoryHost
from volplug.volumes.convergence import Goal
from volplug.volumes.job import Conditions, Job, Patience
from volplug.volumes.run import Run

UUID = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77"
PLANNED = FilesystemTag(FilesystemPhase.FORMATTING, "ext4", UUID)
FINISHED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID)
TARGET = f"{ROOT}/v"


class Bench:
    """A volume called v, and convergences of it."""

    def __init__(self) -> None:
        self.cloud = MemoryCloud()
        self.driver = MemoryDriver(self.cloud)
        self.host = MemoryHost()
        self.changes: list[Volume | None] = []

    async def volume(self, tag: FilesystemTag | None = None, **changes: object) -> Volume:
        made = await self.driver.create(spec_of("v"))
        return self.change(made, filesystem=tag or FilesystemTag(), **changes)

    def change(self, volume: Volume, **changes: object) -> Volume:
        changed = replace(volume, **changes)  # type: ignore[arg-type]
        self.cloud.volumes[volume.volume_id] = changed
        return changed

    def disk(self, volume: Volume, **contents: object) -> Disk:
        disk = self.host.disk(device_of(volume.volume_id))
        for attribute, value in contents.items():
            setattr(disk, attribute, value)
        return disk

    def run(
        self,
        goal: Goal,
        known: Volume | None = None,
        spec: VolumeSpec | None = None,
        *,
        may_be_leaving: bool = False,
        patience: Patience = IMPATIENT,
    ) -> Run:
        async def note(volume: Volume | None) -> None:
            self.changes.append(volume)

        conditions = Conditions(spec=spec)
        job = Job(goal.value, goal, "v", "memory", self.driver, TARGET, 0, known, conditions, may_be_leaving)
        return Run(job, self.host, patience, note)

    async def to(
        self, goal: Goal, known: Volume | None = None, spec: VolumeSpec | None = None
    ) -> Volume | None:
        return await self.run(goal, known, spec).to_goal()
