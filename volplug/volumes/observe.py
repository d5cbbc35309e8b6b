"""Observing: reads backend, kernel and device, and keeps each reading until a step makes it void."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from volplug.drivers.base import ExplainsAbsence
from volplug.errors import BackendUnavailable, DeviceMismatch, DuplicateVolumes, VolplugError
from volplug.host.base import HostReading
from volplug.models import (
    BlockDevice,
    Contents,
    FilesystemPhase,
    MountSource,
    MountState,
    Volume,
    VolumeState,
    not_older,
)
from volplug.volumes.capacity import size_match_of
from volplug.volumes.converge_request import ConvergeContext, ConvergeRequest
from volplug.volumes.decision import Goal, Reason
from volplug.volumes.observed import BackendState, DeviceMatch, DeviceUse, HolderVerdict, Observed
from volplug.volumes.refusals import Facts
from volplug.volumes.takeover import HolderWatch, ask_holder

_KNOWN_IS_ENOUGH: Final = frozenset({Goal.MOUNTED, Goal.RELEASED, Goal.DETACHED})
_RELEASING_GOALS: Final = frozenset({Goal.RELEASED, Goal.DETACHED, Goal.ABSENT})
_BACKEND_STATES: Final = {
    VolumeState.INCOMPLETE: BackendState.INCOMPLETE,
    VolumeState.CREATING: BackendState.CREATING,
    VolumeState.AVAILABLE: BackendState.AVAILABLE,
    VolumeState.DETACHING: BackendState.DETACHING,
    VolumeState.DELETING: BackendState.DELETING,
    VolumeState.ERROR: BackendState.ERROR,
}


def backend_state_of(found: Volume, node_id: str) -> BackendState:
    """Return what a backend's description of a volume means to this node. Pure."""
    is_here = found.holder == node_id
    if found.state is VolumeState.DETACHING and found.holder and not is_here:
        return BackendState.LEAVING
    if found.state is VolumeState.ATTACHING and not found.holder:
        return BackendState.DETACHING  # a transition, of a node that the backend does not name
    return _BACKEND_STATES.get(found.state, BackendState.HERE if is_here else BackendState.ELSEWHERE)


def device_match_of(source: MountSource | None, error: VolplugError | None) -> DeviceMatch:
    """Return what it means that a device was located, or not. Pure."""
    if isinstance(error, DeviceMismatch):
        return DeviceMatch.WRONG
    if source is None:
        return DeviceMatch.NONE
    return DeviceMatch.OUTDATED if source.outdated else DeviceMatch.RIGHT


def _no_device() -> MountSource | None:
    return None


class Observer:
    """The readings of one convergence.

    Attributes:
        volume: The volume as known by now; None if there is none.
        source: Its mount source on this host; None if there is none or it was not located yet.
        backend_state: Its state at the backend; None while unread.
        contents: What the device holds; None while unread.
    """

    def __init__(self, request: ConvergeRequest, context: ConvergeContext, holder: HolderWatch) -> None:
        self._request = request
        self._context = context
        self._holder = holder
        self.volume = None if request.known_absent else context.known
        self.backend_state = BackendState.ABSENT if request.known_absent else None
        self.source: MountSource | None = None
        self._mount = MountState.NONE
        self._recheck_limit = context.timeouts.recheck_limit if context.driver.info.remote else 0
        self._rechecks = 0
        self._transitions_awaited = 0
        self._was_attached_now = False
        self._was_remounted = False
        self._is_inspected = False
        self.contents: Contents | None = None
        self._device_use = DeviceUse.UNTESTED
        self._error: VolplugError | None = None

    @property
    def is_absent(self) -> bool:
        """Tell whether the backend is sure that there is no such volume."""
        return self.backend_state is BackendState.ABSENT

    @property
    def is_rechecked(self) -> bool:
        """Tell whether the record was read anew because of a contradiction."""
        return self._rechecks > 0

    async def observe(self) -> Observed:
        """Read what is not known, and return all that the decision depends on.

        Raises:
            VolplugError: If this host or the driver cannot tell.
        """
        if self.backend_state is None and not await self._use_what_is_known():
            await self._read_record()
        if not self._is_inspected and self._needs_this_host():
            is_leaving = self._context.detach_pending and not self._was_attached_now
            await self._inspect(is_here=self.backend_state is BackendState.HERE and not is_leaving)
        return Observed(
            backend_state=self._believed_state(),
            device=device_match_of(self.source, self._error),
            contents=self.contents.kind if self.contents else None,
            format_phase=self.volume.filesystem.phase if self.volume else FilesystemPhase.PENDING,
            mount=self._mount,
            device_use=self._device_use,
            was_remounted=self._was_remounted,
            holder=self._holder_verdict(),
            is_confirmed=self._rechecks >= self._recheck_limit,
            size=size_match_of(self.volume, self.source, self.contents),
            may_hold_noise=isinstance(self.source, BlockDevice) and self.source.may_hold_noise,
        )

    def _believed_state(self) -> BackendState:
        """Return the state, but DETACHING as long as HERE may be read from before a detach of this host."""
        is_read = self.backend_state is BackendState.HERE and self.source and not self._was_attached_now
        may_leave = self._context.detach_pending and self._request.goal is Goal.MOUNTED
        is_stale = is_read and may_leave and self._transitions_awaited < self._recheck_limit
        return BackendState.DETACHING if is_stale else self.backend_state or BackendState.ABSENT

    def _holder_verdict(self) -> HolderVerdict:
        is_recent = self._holder.waited_s < self._context.timeouts.leaving_s
        if self.backend_state is BackendState.LEAVING and is_recent:
            return HolderVerdict.AWAITED
        return self._holder.verdict(self.volume)

    async def facts(self, reason: Reason) -> Facts:
        """Return what the text of a refusal can draw on."""
        context, holders, other_node = self._context, "", self._holder.last_answer
        if reason is Reason.HELD_HERE:
            holders = await context.host.describe_holders(self.source, context.target)
        if reason is Reason.HELD_ELSEWHERE and self.volume and other_node is None:
            other_node = await ask_holder(context.driver, self.volume.holder or "")
        error = self._error
        if reason is Reason.NOT_FOUND and isinstance(context.driver, ExplainsAbsence):
            error = await context.driver.absence(self._request.name)
        return Facts(self.volume, self.source, self.contents, holders, other_node, error)

    # Reading

    async def _use_what_is_known(self) -> bool:
        """Use what is known and attached here without a call to the backend; return whether that is enough.

        Only a finished format is final; any other filesystem tag may have changed since it was read.
        """
        known, goal = self._context.known, self._request.goal
        if known is None or goal not in _KNOWN_IS_ENOUGH or self._holder.waited_s or self._rechecks:
            return False
        # A record that cannot be used has no UUID, and leaves unknown what to mount.
        is_remount = self._request.is_remount and known.filesystem.uuid != ""
        is_usable = known.state is not VolumeState.ERROR and known.holder == self._context.driver.node_id
        if goal is Goal.MOUNTED and (self._context.detach_pending or not (is_usable or is_remount)):
            return False
        await self._inspect(is_here=True)
        if goal is Goal.RELEASED and self.source is None:
            self.backend_state = BackendState.AVAILABLE
            return True
        is_final = known.filesystem.phase is FilesystemPhase.FORMATTED
        if self.source is None or not is_final:
            return False
        source = self.source
        if isinstance(source, BlockDevice) and source.size_bytes != known.size_bytes and not is_remount:
            return False
        self.backend_state = BackendState.HERE
        return True

    async def _read_record(self) -> None:
        """Read the record; what this host showed before was read for another one, and is void."""
        self._error = None
        self._is_inspected = False
        self.void_contents()
        try:
            found = await self._context.driver.get(self._request.name)
        except BackendUnavailable as error:
            self.backend_state, self._error = BackendState.UNREACHABLE, error
        except DuplicateVolumes as error:
            self.backend_state, self._error = BackendState.DUPLICATE, error
        else:
            self.record_read(found)

    def _needs_this_host(self) -> bool:
        """Tell whether the decision depends on what this host shows.

        A local backend's record is exact about its device, so that a volume to mount which is not attached
        is not looked for.
        """
        goal, is_detached = self._request.goal, self.backend_state is BackendState.AVAILABLE
        if goal is Goal.PRESENT:
            return self.backend_state is BackendState.DELETING  # to be finished first
        return goal is not Goal.MOUNTED or not is_detached or self._context.driver.info.remote

    async def _inspect(self, *, is_here: bool) -> None:
        """Read what this host shows.

        Args:
            is_here: Whether the volume is certainly attached here: a device about to go is not read.
        """
        context, volume, goal = self._context, self.volume, self._request.goal
        is_releasing = goal in _RELEASING_GOALS
        is_readable = is_here and not is_releasing and volume and volume.state is not VolumeState.ERROR
        try:
            reading = await context.host.inspect(
                context.target,
                partial(context.driver.locate, volume) if volume else _no_device,
                tag=volume.filesystem if volume and is_readable else None,
                test_release=is_releasing,
            )
        except DeviceMismatch as error:
            self._error = error
            reading = await context.host.inspect(context.target, _no_device)
        self.inspected(reading)

    # What the steps report

    def inspected(self, reading: HostReading) -> None:
        """Take over what this host shows."""
        self.source, self._mount = reading.source, reading.mount
        self.contents = reading.contents
        self._device_use = DeviceUse.FREE if reading.is_free else DeviceUse.UNTESTED
        self._is_inspected = True

    def record_read(self, found: Volume | None) -> None:
        """Take over the driver's description of the volume."""
        if found is None or self._request.only_id not in ("", found.volume_id):
            self.backend_state = BackendState.ABSENT
            if self._request.goal in (Goal.PRESENT, Goal.MOUNTED):
                self.volume = None  # the known record is obsolete
            return
        self.volume = not_older(found, self.volume)
        self.backend_state = backend_state_of(found, self._context.driver.node_id)

    def created(self, volume: Volume) -> None:
        """Take over a created volume; its device is located anew."""
        self.record_read(volume)
        self._is_inspected = False

    def transition_awaited(self, found: Volume | None) -> None:
        """Void all readings after a wait for a transition.

        Args:
            found: The volume as the wait found it; None if it has to be read.
        """
        self._transitions_awaited += 1
        self._is_inspected = False
        self.void_contents()
        self.backend_state = None
        if found is not None:
            self.record_read(found)

    def recheck_record(self) -> None:
        """Void the record, which may be a stale read, and what was judged by it."""
        self._rechecks += 1
        self.void_record()
        self.void_contents()

    def void_record(self) -> None:
        """Have the record read anew."""
        self.backend_state = None

    def void_contents(self) -> None:
        """Have the device read and tested anew."""
        self.contents = None
        self._device_use = DeviceUse.UNTESTED

    def contents_read(self, contents: Contents) -> None:
        """Take over what the device holds."""
        self.contents = contents

    def release_tested(self, *, is_held: bool) -> None:
        """Take over the result of the release test."""
        self._device_use = DeviceUse.BUSY if is_held else DeviceUse.FREE

    def attached(self, source: MountSource) -> None:
        """Take over the device of an attach."""
        self._was_attached_now = True
        self._hold(self._context.driver.node_id)
        self.void_contents()
        self.source = source
        self._is_inspected = False

    def unmounted(self, *, is_free: bool) -> None:
        """Take over an unmount, and the result of the release test after it."""
        self._was_remounted = self._was_remounted or self._mount is MountState.READ_ONLY
        self.void_contents()
        self._mount = MountState.NONE
        if is_free:
            self._device_use = DeviceUse.FREE

    def detached(self) -> None:
        """Take over a detach; what the backend makes of a volume that it did not show here is read anew."""
        if self.backend_state is BackendState.HERE:
            self._hold(None)
        else:
            self.void_record()
        self.source = None
        self.void_contents()

    def taken_over(self) -> None:
        """Take over the end of a takeover: no node has the volume."""
        self._hold(None)

    def deleted(self) -> None:
        """Take over a deletion."""
        self.volume, self.backend_state = None, BackendState.ABSENT

    def _hold(self, node_id: str | None) -> None:
        state = VolumeState.IN_USE if node_id else VolumeState.AVAILABLE
        if self.volume is not None:
            self.volume = replace(self.volume, state=state, holder=node_id)
        self.backend_state = BackendState.HERE if node_id else BackendState.AVAILABLE
