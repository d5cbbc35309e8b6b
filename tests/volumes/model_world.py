"""A model in which every step of a convergence has its intended effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from volplug.models import ContentKind, FilesystemPhase, MountState
from volplug.volumes.decision import Step
from volplug.volumes.observed import BackendState, DeviceMatch, DeviceUse, HolderVerdict, Observed


@dataclass(frozen=True)
class ModelWorld:
    """The observation, and the true state.

    Attributes:
        seen: The observation so far.
        contents: The real contents of the device.
        is_held: Whether the device is really in use.
    """

    seen: Observed
    contents: ContentKind
    is_held: bool

    def after(self, step: Step) -> list[ModelWorld]:
        """Return every state that the step may lead to."""
        if step is Step.AWAIT_BACKEND:
            return self._backend_settled()
        if step is Step.ASK_HOLDER:
            return [
                self.saw(holder=standing)
                for standing in HolderVerdict
                if standing is not HolderVerdict.UNASKED
            ]
        if step is Step.AWAIT_HOLDER:
            timed_out = [self.saw(holder=each) for each in _AT_LAST]
            return [*timed_out, self.saw(backend_state=BackendState.AVAILABLE)]
        if step is Step.RECHECK_RECORD:
            confirmed = self.changed(is_confirmed=True)
            return [
                confirmed,
                confirmed.saw(backend_state=BackendState.HERE),
                confirmed.saw(format_phase=FilesystemPhase.FORMATTED),
            ]
        return [_EFFECTS[step](self)]

    def _backend_settled(self) -> list[ModelWorld]:
        gone = self.saw(backend_state=BackendState.AVAILABLE, device=DeviceMatch.NONE)
        is_over = self.seen.backend_state in (
            BackendState.CREATING,
            BackendState.DETACHING,
            BackendState.LEAVING,
        )
        return [gone] if is_over else [gone, self.saw(backend_state=BackendState.HERE)]

    def saw(self, **changes: object) -> ModelWorld:
        return replace(self, seen=replace(self.seen, **changes))  # type: ignore[arg-type]

    def changed(self, **changes: object) -> ModelWorld:
        """Like `saw`; earlier reads of the device are void."""
        return self.saw(**{"contents": None, "device_use": DeviceUse.UNTESTED, **changes})


def _created(world: ModelWorld) -> ModelWorld:
    made = ModelWorld(world.seen, ContentKind.BLANK, is_held=False)
    return made.changed(
        backend_state=BackendState.AVAILABLE, device=DeviceMatch.NONE, format_phase=FilesystemPhase.PENDING
    )


def _mounted(world: ModelWorld) -> ModelWorld:
    """A filesystem that went read-only stays so as long as others use it."""
    still_read_only = world.seen.was_remounted and world.is_held
    return world.changed(mount=MountState.READ_ONLY if still_read_only else MountState.OK)


def _unmounted(world: ModelWorld) -> ModelWorld:
    remounted = world.seen.was_remounted or world.seen.mount is MountState.READ_ONLY
    return world.changed(mount=MountState.NONE, was_remounted=remounted)


def _detached(world: ModelWorld) -> ModelWorld:
    record = world.seen.backend_state
    stays = record in {BackendState.ABSENT, BackendState.ERROR}
    return world.changed(backend_state=record if stays else BackendState.AVAILABLE, device=DeviceMatch.NONE)


def _formatted(world: ModelWorld) -> ModelWorld:
    return replace(world, contents=ContentKind.OURS).changed(contents=ContentKind.OURS)


_AT_LAST = (HolderVerdict.KEPT, HolderVerdict.DEAD, HolderVerdict.FENCEABLE)
_EFFECTS: Mapping[Step, Callable[[ModelWorld], ModelWorld]] = {
    Step.FENCE: lambda world: world.saw(holder=HolderVerdict.DEAD),
    Step.TAKE_OVER: lambda world: world.saw(backend_state=BackendState.AVAILABLE),
    Step.READ_CONTENTS: lambda world: world.saw(contents=world.contents),
    Step.TEST_RELEASE: lambda world: world.saw(
        device_use=DeviceUse.BUSY if world.is_held else DeviceUse.FREE
    ),
    Step.CREATE: _created,
    Step.ATTACH: lambda world: world.changed(backend_state=BackendState.HERE, device=DeviceMatch.RIGHT),
    Step.TAG_FORMATTING: lambda world: world.saw(format_phase=FilesystemPhase.FORMATTING),
    Step.MAKE_FILESYSTEM: _formatted,
    Step.CHECK_FILESYSTEM: lambda world: replace(world, contents=ContentKind.OURS).changed(),
    Step.MOUNT: _mounted,
    Step.FINISH_FORMAT: lambda world: world.saw(format_phase=FilesystemPhase.FORMATTED),
    Step.UNMOUNT: _unmounted,
    Step.DETACH: _detached,
    Step.DELETE: lambda world: world.changed(backend_state=BackendState.ABSENT),
}
