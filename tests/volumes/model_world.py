"""A world in which every step of a convergence does what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from volplug.models import ContentKind, FilesystemPhase, MountState
from volplug.volumes.convergence import Device, Kernel, Observed, Record, Standing, Step


@dataclass(frozen=True)
class ModelWorld:
    """What has been observed, and what is true beside it.

    Attributes:
        seen: The observation so far.
        contents: What the device really holds.
        is_held: Whether somebody really holds the device.
    """

    seen: Observed
    contents: ContentKind
    is_held: bool

    def after(self, step: Step) -> list[ModelWorld]:
        """Return every world that the step may lead to."""
        if step is Step.AWAIT_BACKEND:
            return self._backend_settled()
        if step is Step.ASK_HOLDER:
            return [self.saw(standing=standing) for standing in Standing if standing is not Standing.UNASKED]
        if step is Step.AWAIT_HOLDER:
            patience_over = [self.saw(standing=each) for each in _AT_LAST]
            return [*patience_over, self.saw(record=Record.AVAILABLE)]
        if step is Step.AWAIT_NEWS:
            confirmed = self.changed(confirmed=True)
            return [
                confirmed,
                confirmed.saw(record=Record.HERE),
                confirmed.saw(phase=FilesystemPhase.FORMATTED),
            ]
        return [_EFFECTS[step](self)]

    def _backend_settled(self) -> list[ModelWorld]:
        gone = self.saw(record=Record.AVAILABLE, device=Device.NONE)
        is_over = self.seen.record in (Record.CREATING, Record.DETACHING, Record.LEAVING)
        return [gone] if is_over else [gone, self.saw(record=Record.HERE)]

    def saw(self, **changes: object) -> ModelWorld:
        return replace(self, seen=replace(self.seen, **changes))  # type: ignore[arg-type]

    def changed(self, **changes: object) -> ModelWorld:
        """Like `saw`; what had been read of the device is void."""
        return self.saw(**{"contents": None, "kernel": Kernel.UNTESTED, **changes})


def _created(world: ModelWorld) -> ModelWorld:
    made = ModelWorld(world.seen, ContentKind.BLANK, is_held=False)
    return made.changed(record=Record.AVAILABLE, device=Device.NONE, phase=FilesystemPhase.PENDING)


def _mounted(world: ModelWorld) -> ModelWorld:
    """A filesystem that went read-only stays so as long as others use it."""
    still_read_only = world.seen.remounted and world.is_held
    return world.changed(mount=MountState.READ_ONLY if still_read_only else MountState.OK)


def _unmounted(world: ModelWorld) -> ModelWorld:
    remounted = world.seen.remounted or world.seen.mount is MountState.READ_ONLY
    return world.changed(mount=MountState.NONE, remounted=remounted)


def _detached(world: ModelWorld) -> ModelWorld:
    record = world.seen.record
    stays = record in {Record.ABSENT, Record.ERROR}
    return world.changed(record=record if stays else Record.AVAILABLE, device=Device.NONE)


def _formatted(world: ModelWorld) -> ModelWorld:
    return replace(world, contents=ContentKind.OURS).changed(contents=ContentKind.OURS)


_AT_LAST = (Standing.KEPT, Standing.DEAD, Standing.FENCEABLE)
_EFFECTS: Mapping[Step, Callable[[ModelWorld], ModelWorld]] = {
    Step.FENCE: lambda world: world.saw(standing=Standing.DEAD),
    Step.TAKE_OVER: lambda world: world.saw(record=Record.AVAILABLE),
    Step.READ_CONTENTS: lambda world: world.saw(contents=world.contents),
    Step.TEST_RELEASE: lambda world: world.saw(kernel=Kernel.HELD if world.is_held else Kernel.FREE),
    Step.CREATE: _created,
    Step.ATTACH: lambda world: world.changed(record=Record.HERE, device=Device.RIGHT),
    Step.TAG_FORMATTING: lambda world: world.saw(phase=FilesystemPhase.FORMATTING),
    Step.MAKE_FILESYSTEM: _formatted,
    Step.CHECK_FILESYSTEM: lambda world: replace(world, contents=ContentKind.OURS).changed(),
    Step.MOUNT: _mounted,
    Step.INITIALISE: lambda world: world.saw(phase=FilesystemPhase.FORMATTED),
    Step.UNMOUNT: _unmounted,
    Step.DETACH: _detached,
    Step.DELETE: lambda world: world.changed(record=Record.ABSENT),
}
