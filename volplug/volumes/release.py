"""Release and detach: after the last unmount, or by trial where counts are unconfirmed; with retries."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Final

from volplug.errors import VolplugError, VolumeInUse
from volplug.models import MountState
from volplug.volumes import failures
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.events import EventKind
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.locks import VolumeLock
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation, Origin

_FIRST_RETRY_S: Final = 1.0
_TRIAL_RETRY_S: Final = 60.0  # a container that was ending at the first trial has ended


class Releaser:
    """Releases and detaches volumes, tries to release those with unconfirmed counts, and retries."""

    def __init__(self, node: LocalNode, converger: Converger) -> None:
        self._node = node
        self._converger = converger
        self._unconfirmed_mount_s: dict[str, float] = {}

    def schedule(self, name: str, delay_s: float) -> None:
        """Detach the volume after the delay unless it is in use again by then; retried until it works."""
        lock = self._node.locks.of(name)
        first_retry_s = min(_FIRST_RETRY_S, self._node.deadlines.retry_max_s)
        self._node.timers.schedule(name, delay_s, partial(self._detach, lock, first_retry_s), at_stop=True)

    def schedule_trial(self, name: str, delay_s: float, retry_s: float = 0.0) -> None:
        """Try to release a volume with unconfirmed counts after the delay.

        Args:
            name: The volume's.
            delay_s: Until the trial.
            retry_s: From a trial that does not pass to the next, at least.
        """
        lock = self._node.locks.of(name)
        self._node.timers.schedule(name, delay_s, partial(self._try_release, lock, retry_s))

    def unconfirm(self, name: str, *, may_begin: bool) -> Coroutine[object, object, None]:
        """Make all counts of a volume unconfirmed at once, and schedule a trial; return the writing of it.

        Args:
            name: The volume's.
            may_begin: Whether the container of a recent Mount may be about to begin: the engine is the same.
        """
        entry = self._node.ledger.get(name)
        self._unconfirmed_mount_s.pop(name, None)
        if may_begin and entry is not None:
            self._unconfirmed_mount_s[name] = entry.mounted_at_s
        self.schedule_trial(name, self._node.deadlines.mount_grace_s)
        return self._node.ledger.update(name, Entry.with_none_confirmed)

    async def trial_release(self, entry: Entry, timeout_s: float, operation: Operation) -> Entry:
        """Find out whether a volume that is counted as used is in use; the caller holds its lock.

        Passed: the counts are dropped and the volume is unmounted. Not passed: it is mounted again as it was.

        Args:
            entry: The volume.
            timeout_s: How long to wait for its last user to close it.
            operation: Whose work it is.

        Returns:
            The entry without claims.

        Raises:
            VolumeInUse: If it is in use, or a Mount was answered so recently that its container may be about
                to use it, or it cannot be told which device to test.
        """
        node, name = self._node, entry.name
        self._refuse_if_recent(entry)
        was_mounted = await self._is_mounted(entry)
        if was_mounted and entry.record is None:
            entry = await self._identified(entry)
        try:
            await self._converger.converge(
                ConvergeRequest(
                    operation=operation,
                    name=name,
                    backend=entry.backend,
                    goal=Goal.RELEASED,
                    release_timeout_s=timeout_s,
                )
            )
        except Exception:
            if was_mounted:
                await self._remount(entry, operation)
            raise
        node.events.record(
            "warning",
            EventKind.CHANGE,
            "mount counts dropped: not in use",
            volume=name,
            mount_count=entry.mount_count,
        )
        released = replace(node.ledger.get(name) or entry, desired=Desired.DETACHED).without_claims()
        await node.ledger.put(released)
        return released

    async def _identified(self, entry: Entry) -> Entry:
        """Ask the backends once more: after an unmount it could not be told which device to test."""
        with contextlib.suppress(VolplugError):
            await self._node.identify(entry.name)
        known = self._node.ledger.get(entry.name)
        if known is None or known.record is None:
            raise VolumeInUse(
                "what is mounted here cannot be identified as a volume", "See the log of volplug"
            )
        return known

    async def _is_mounted(self, entry: Entry) -> bool:
        node = self._node
        state = await node.host(entry.backend).mount_state(node.target(entry.name), None)
        return state is not MountState.NONE

    async def _remount(self, entry: Entry, operation: Operation) -> None:
        """Mount again what a trial unmounted, retried until it works: `docker cp` needs it."""
        node, name = self._node, entry.name
        request = ConvergeRequest(
            operation=operation, name=name, backend=entry.backend, goal=Goal.MOUNTED, is_remount=True
        )
        try:
            await self._converger.converge(request)
        except Exception as error:  # the trial's own error is the one to show
            text = "remount failed, will be retried"
            node.events.record("warning", EventKind.RETRY, text, volume=name, error=str(error))
            failures.keep_failure(node, "remount", name, error)
            # Under a name of its own: it must not replace what others schedule for the volume.
            retry = partial(self._retry_remount, node.locks.of(name))
            node.timers.schedule(f"remount {name}", node.deadlines.retry_max_s / 10, retry)
        else:
            failures.drop_failure(node, name, "remount")

    async def _retry_remount(self, lock: VolumeLock) -> None:
        with self._node.operations.operation("remount", lock.name) as operation:
            async with lock:
                entry = self._node.ledger.get(lock.name)
                if entry is not None and entry.is_claimed and not await self._is_mounted(entry):
                    await self._remount(entry, operation)

    async def is_released_by_trial(self, entry: Entry, operation: Operation, retry_s: float = 0.0) -> bool:
        """Try a release that no caller waits for; return whether it passed. If not, it is retried later.

        After longer and longer pauses: a container that has just ended may hold the volume a moment longer,
        and each trial unmounts what a running one uses. Here even an unconfirmed Mount is left alone while
        it is recent: its container may be about to begin.
        """
        age_s = self._node.boot_clock() - self._unconfirmed_mount_s.get(entry.name, -math.inf)
        remaining_s = self._node.deadlines.mount_grace_s - age_s
        if remaining_s > 0:
            self.schedule_trial(entry.name, remaining_s)
            return False
        try:
            await self.trial_release(entry, self._node.timeouts.quick_release_s, operation)
        except Exception as error:  # no caller waits for it, and the counts stay
            is_expected = isinstance(error, VolplugError)
            if not isinstance(error, VolumeInUse):
                failures.keep_failure(self._node, "trial release", entry.name, error)
            self._node.events.record(
                "info",
                EventKind.RETRY,
                "mount counts kept",
                volume=entry.name,
                reason=str(error),
                exc_info=not is_expected,
            )
            if operation.origin is Origin.VOLPLUG:  # an Unmount is answered all the same
                operation.failure = Failure.of(operation.kind, error, self._node.wall_clock())
            # The engine may have forgotten the container, and never send an Unmount.
            pause_s = min(max(retry_s, _TRIAL_RETRY_S), self._node.deadlines.retry_max_s)
            self.schedule_trial(entry.name, pause_s, pause_s * 2)
            return False
        return True

    def _refuse_if_recent(self, entry: Entry) -> None:
        node = self._node
        age_s, grace_s = node.boot_clock() - entry.mounted_at_s, node.deadlines.mount_grace_s
        if node.locks.of(entry.name).mounts_in_progress:
            raise VolumeInUse("the volume is being mounted", "Wait for the container to start, then stop it")
        if entry.confirmed and age_s < grace_s:
            raise VolumeInUse(
                f"the volume was mounted for Docker {age_s:.0f} s ago and not unmounted",
                f"Stop the container that uses it, or try again in {grace_s - age_s:.0f} s",
            )

    async def _detach(self, lock: VolumeLock, retry_s: float) -> None:
        node, name = self._node, lock.name
        with node.operations.operation("detach", name) as operation:
            async with lock:
                entry = node.ledger.get(name)
                if entry is None or node.is_in_use(name):
                    return
                if entry.desired in {Desired.PRESENT, Desired.ABSENT}:
                    return  # handled by Recovery
                request = ConvergeRequest(
                    operation=operation, name=name, backend=entry.backend, goal=Goal.DETACHED
                )
                try:
                    await self._converger.converge(request)
                except Exception as error:  # a bug or a dead device must not end the retries
                    operation.failure = await self._retry_detach(lock, entry, error, retry_s)
                    return

    async def _retry_detach(
        self, lock: VolumeLock, entry: Entry, error: Exception, retry_s: float
    ) -> Failure:
        node, name = self._node, lock.name
        failure = Failure.of("detach", error, node.wall_clock())
        if not failure.is_same(entry.failure):
            is_expected = isinstance(error, VolplugError)
            node.events.record(
                "warning",
                EventKind.RETRY,
                "detach failed, will be retried",
                volume=name,
                error=failure.text,
                exc_info=not is_expected,
            )
        longer_s = min(retry_s * 2, node.deadlines.retry_max_s)
        node.timers.schedule(name, retry_s, partial(self._detach, lock, longer_s))
        current = node.ledger.get(name) or entry
        await node.ledger.put(replace(current, desired=Desired.DETACHED).with_failure(failure))
        return failure

    async def _try_release(self, lock: VolumeLock, retry_s: float) -> None:
        node = self._node
        with node.operations.operation("trial release", lock.name) as operation:
            async with lock:
                entry = node.ledger.get(lock.name)
                if entry is None or not entry.is_unconfirmed:
                    return
                if not await self.is_released_by_trial(entry, operation, retry_s):
                    return
        self.schedule(lock.name, 0)
