"""One volume with a backend and a machine in memory, and convergences of it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.volumes.world import IMPATIENT, ROOT, spec_of
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec
from volplug.steps import unannounced
from volplug.testing.host import Disk, MemoryHost
from volplug.testing.memory import MemoryCloud, MemoryDriver, device_of
from volplug.volumes.converge import Convergence
from volplug.volumes.converge_request import ConvergeContext, ConvergeRequest, Timeouts
from volplug.volumes.decision import Goal
from volplug.volumes.events import EventLog
from volplug.volumes.operations import Operation

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
        detach_pending: bool = False,
        is_remount: bool = False,
        timeouts: Timeouts = IMPATIENT,
        before_change: Callable[[Volume | None], Awaitable[None]] | None = None,
    ) -> Convergence:
        async def note(volume: Volume | None) -> None:
            self.changes.append(volume)

        request = ConvergeRequest(
            operation=Operation("1", goal.value, "v"),
            name="v",
            backend="memory",
            goal=goal,
            spec=spec,
            release_timeout_s=0,
            is_remount=is_remount,
        )
        context = ConvergeContext(
            driver=self.driver,
            host=self.host,
            target=TARGET,
            timeouts=timeouts,
            known=known,
            detach_pending=detach_pending,
        )
        return Convergence(request, context, before_change or note, unannounced, EventLog("run"))

    async def to(
        self, goal: Goal, known: Volume | None = None, spec: VolumeSpec | None = None
    ) -> Volume | None:
        return await self.run(goal, known, spec).to_goal()
