"""Recovery at start: what a previous process left half done, volume by volume."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Final

from volplug.errors import VolplugError
from volplug.models import MountState, Volume, VolumeState
from volplug.names import is_name
from volplug.volumes import failures
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.events import EventKind
from volplug.volumes.ledger import Desired, Entry, Failure
from volplug.volumes.locks import VolumeLock
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation
from volplug.volumes.release import Releaser

_FIRST_RETRY_S: Final = 1.0
_HALF_DONE: Final = {
    Desired.PRESENT: (frozenset({VolumeState.INCOMPLETE, VolumeState.CREATING}), Goal.PRESENT),
    Desired.ABSENT: (frozenset({VolumeState.DELETING}), Goal.ABSENT),
}


class Recovery:
    """Recovers each volume under its lock, so that calls for that volume, and only those, wait for it."""

    def __init__(self, node: LocalNode, converger: Converger, releaser: Releaser) -> None:
        self._node = node
        self._converger = converger
        self._releaser = releaser
        self._first_tries: list[asyncio.Task[None]] | None = None

    async def begin(self) -> None:
        """Lock every volume that is remembered or found mounted, and start to recover and unlock each."""
        node = self._node
        entries = node.ledger.entries()
        self._converger.expect_detach(entry.name for entry in entries if not entry.is_claimed)
        locks = [node.locks.of(name) for name in await self._names(entries)]
        for lock in locks:
            await lock.acquire()
        retry_s = min(_FIRST_RETRY_S, node.deadlines.retry_max_s)
        for backend in node.backends:
            # Not at once: the cloud may serve stale reads of changes made just before the restart.
            self._schedule_search(backend, node.deadlines.mount_grace_s, retry_s)
        self._first_tries = [
            node.operations.run("recover", lock.name, partial(self._recover, lock, retry_s)) for lock in locks
        ]

    @property
    def is_done(self) -> bool:
        """Tell whether recovery has been tried for every volume; some may have to be tried again."""
        return self._first_tries is not None and all(task.done() for task in self._first_tries)

    async def _names(self, entries: Sequence[Entry]) -> Sequence[str]:
        node = self._node
        mountpoints = await node.host(node.default_backend).mounts_below(node.mount_root)
        mounted = {name for name in (PurePath(path).name for path in mountpoints) if is_name(name)}
        return sorted({entry.name for entry in entries} | mounted)

    def _schedule_search(self, backend: str, delay_s: float, retry_s: float) -> None:
        action = partial(self._detach_unknown, backend, retry_s)
        # No volume has a blank in its name.
        self._node.timers.schedule(f"search of {backend}", delay_s, action)

    async def _detach_unknown(self, backend: str, retry_s: float) -> None:
        """Detach what is attached here without an entry: the state was lost during a linger."""
        node = self._node
        driver = node.driver(backend)
        try:
            volumes = await driver.list()
        except Exception as error:  # whatever fails at the backend, it is asked again
            is_expected = isinstance(error, VolplugError)
            node.events.record(
                "warning",
                EventKind.RETRY,
                "search for attached volumes failed, will be retried",
                backend=backend,
                error=str(error),
                exc_info=not is_expected,
            )
            self._schedule_search(backend, retry_s, min(retry_s * 2, node.deadlines.retry_max_s))
            return
        for volume in volumes:
            if volume.holder == driver.node_id:
                await self._detach_if_unwanted(volume)

    async def _detach_if_unwanted(self, volume: Volume) -> None:
        node, name = self._node, volume.name
        async with node.locks.of(name):
            entry = node.ledger.get(name) or Entry(name, volume.backend, record=volume)
            if node.is_in_use(name) or entry.desired is not Desired.NONE:
                return
            await node.ledger.put(replace(entry, desired=Desired.DETACHED))
            self._releaser.schedule(name, 0)

    async def _recover(self, lock: VolumeLock, retry_s: float, operation: Operation) -> None:
        """Recover a volume whose lock is held, then unlock it; retried later if that fails."""
        node, name = self._node, lock.name
        try:
            await self._recover_entry(name, operation)
        except Exception as error:  # one broken volume must not keep the others from being recovered
            is_expected = isinstance(error, VolplugError)
            node.events.record(
                "warning",
                EventKind.RETRY,
                "recovery failed, will be retried",
                volume=name,
                error=str(error),
                exc_info=not is_expected,
            )
            operation.failure = Failure.of(operation.kind, error, node.wall_clock())
            failures.keep_failure(node, operation.kind, name, error)
            retry = partial(self._retry_recovery, lock, min(retry_s * 2, node.deadlines.retry_max_s))
            # Under a name of its own: what others schedule for the volume must not replace it.
            node.timers.schedule(f"recovery of {name}", retry_s, retry)
        else:
            failures.drop_failure(node, name, operation.kind)
        finally:
            lock.release()

    async def _retry_recovery(self, lock: VolumeLock, retry_s: float) -> None:
        with self._node.operations.operation("recover", lock.name) as operation:
            await lock.acquire()
            if lock.mounts_in_progress:
                lock.release()  # the Mount finds out what there is
                return
            await self._recover(lock, retry_s, operation)

    async def _recover_entry(self, name: str, operation: Operation) -> None:
        node = self._node
        entry = node.ledger.get(name) or Entry(name, node.default_backend)
        if entry.desired in _HALF_DONE:
            await self._finish_half_done(entry, operation)
            return
        host, target = node.host(entry.backend), node.target(name)
        is_mounted = await host.mount_state(target, None) is not MountState.NONE
        if not is_mounted:
            await host.unmount(target)  # removes the bare directory of a mount never made
        if is_mounted and entry.desired is Desired.NONE and not (entry.confirmed or entry.unconfirmed):
            text = "volume is mounted and its users are unknown"
            node.events.record("warning", EventKind.RETRY, text, volume=name)
            await node.ledger.put(replace(entry, holders_unknown=True))
            await node.identify(name)
            self._releaser.schedule_trial(name, node.deadlines.mount_grace_s)
            return
        if entry.is_claimed and (is_mounted or await self._is_held(entry)):
            # An Unmount that was sent while this process did not run is lost: dockerd never repeats it.
            await self._releaser.unconfirm(name, may_begin=True)
            return
        if entry.is_claimed or entry.desired is not Desired.NONE:
            await node.ledger.put(replace(entry.without_claims(), desired=Desired.DETACHED))
            self._releaser.schedule(name, 0)

    async def _is_held(self, entry: Entry) -> bool:
        """Tell whether containers use a device whose mount ended with the previous mount namespace."""
        if entry.record is None:
            return False
        node, locate = self._node, partial(self._node.driver(entry.backend).locate, entry.record)
        reading = await node.host(entry.backend).inspect(node.target(entry.name), locate, test_release=True)
        return reading.source is not None and not reading.is_free

    async def _finish_half_done(self, entry: Entry, operation: Operation) -> None:
        """Finish a creation or deletion only if the backend shows that it had begun.

        Otherwise the caller was told of a failure and nothing has happened: it stays so.
        """
        node, name = self._node, entry.name
        states, goal = _HALF_DONE[entry.desired]
        volume = await node.driver(entry.backend).get(name)
        if volume is None:
            await node.ledger.forget(name)
            return
        if volume.state in states:
            await self._converger.converge(
                ConvergeRequest(
                    operation=operation,
                    name=name,
                    backend=entry.backend,
                    goal=goal,
                    only_id=volume.volume_id,
                )
            )
        if node.ledger.get(name) is not None:
            await node.ledger.update(name, partial(replace, desired=Desired.DETACHED))
            self._releaser.schedule(name, 0)
