"""Mount: converging, counting, and the release of a Mount whose answer does not reach its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from volplug.errors import ClientGone, ErrorContext, OperationTimeout
from volplug.models import Volume
from volplug.volumes import failures
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.locks import VolumeLock
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation
from volplug.volumes.release import Releaser
from volplug.volumes.selection import Selection


class Client(Protocol):
    """The process that waits for an answer."""

    def is_gone(self) -> bool:
        """Tell whether the connection has been closed by the other side."""
        ...


@dataclass(frozen=True, slots=True)
class MountAnswer:
    """The answer to a Mount. Its count is unconfirmed until it is known whether the client received it.

    Attributes:
        path: For Docker.
        lock: The volume's; the Mount is in progress until then.
        settle: Called with whether the answer was written.
    """

    path: str
    lock: VolumeLock
    settle: Callable[[bool], None]

    def answered(self, is_delivered: bool) -> None:  # a callback of the transport
        """Confirm the count if the answer was written to an open connection, or take it back.

        In this order, and without a pause: a trial release that saw the Mount neither in progress nor
        counted would unmount the volume.
        """
        self.settle(is_delivered)
        self.lock.end_mount()


@dataclass(slots=True)
class _WaitingMount:
    """One Mount that waits for its answer.

    Attributes:
        client: The process that waits.
        is_over: Whether the call has ended, in time or not.
    """

    client: Client
    is_over: bool = False

    def is_lost(self) -> bool:
        """Tell whether an answer can no longer reach the client."""
        return self.is_over or self.client.is_gone()

    def check_wanted(self) -> None:
        """Check that the client still waits.

        Raises:
            ClientGone: If it does not.
        """
        if self.client.is_gone():
            raise ClientGone("the client left while it waited for the volume")


class Mounter:
    """Mounts volumes of this node."""

    def __init__(
        self,
        node: LocalNode,
        converger: Converger,
        releaser: Releaser,
        selection: Selection,
    ) -> None:
        self._node = node
        self._converger = converger
        self._releaser = releaser
        self._selection = selection

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """See `VolumeService.mount`; the name is checked already.

        Raises:
            ClientGone: If the client left before the answer.
            OperationTimeout: If the deadline of the answer is over; the work continues, and a retry joins it.
            VolplugError: Why the volume cannot be mounted.
        """
        node = self._node
        lock, call = node.locks.of(name), _WaitingMount(client)
        node.timers.cancel(name)
        lock.begin_mount()
        mount = partial(self._mount, lock, mount_id, call)
        try:
            path = await failures.wait_for(node, "mount", name, mount, node.deadlines.slow_answer_s)
        except BaseException as error:
            call.is_over = True
            lock.end_mount()
            self._release_lost_mount(lock, may_retry=isinstance(error, (ClientGone, OperationTimeout)))
            raise
        return MountAnswer(path, lock, partial(self._settle_mount, lock, mount_id))

    async def _mount(self, lock: VolumeLock, mount_id: str, call: _WaitingMount, operation: Operation) -> str:
        try:
            volume, backend = await self._mounted(lock, call, operation)
            await self._count(lock.name, mount_id, call, backend)
        finally:
            if call.is_over:  # the work outlived its call
                self._release_lost_mount(lock, may_retry=True)
        return self._node.mountpoint(lock.name, volume)

    async def _mounted(
        self, lock: VolumeLock, call: _WaitingMount, operation: Operation
    ) -> tuple[Volume | None, str]:
        """Mount the volume; return it and its backend."""
        node = self._node
        async with lock:
            backend = await self._selection.backend_of(lock.name)
            request = ConvergeRequest(
                operation=operation,
                name=lock.name,
                backend=backend,
                goal=Goal.MOUNTED,
                check_wanted=call.check_wanted,
                holder_wait_s=node.deadlines.release_wait_s,
                takeover=node.takeover,
            )
            return await self._converger.converge(request), backend

    async def _count(self, name: str, mount_id: str, call: _WaitingMount, backend: str) -> None:
        """Count a Mount just before its answer, unconfirmed until that is written (`MountAnswer`).

        Raises:
            ClientGone: If the client does not wait for the answer any more; the Mount is not counted then.
        """
        lost = ClientGone("the client left before the answer").in_context(ErrorContext("mount", name))
        if call.is_lost():
            raise lost
        ledger = self._node.ledger
        entry = ledger.get(name) or Entry(name, backend)
        counted = entry.with_mount(mount_id, self._node.boot_clock())
        await ledger.put(replace(counted, desired=Desired.MOUNTED, failure=None))
        if call.is_lost():  # while it was written, which a slow disk may make long
            await ledger.update(name, lambda now: now.without_unconfirmed(mount_id))
            raise lost

    def _settle_mount(self, lock: VolumeLock, mount_id: str, is_delivered: bool) -> None:
        node = self._node
        settled = Entry.with_confirmed if is_delivered else Entry.without_unconfirmed
        node.tasks.start_write(node.ledger.update(lock.name, lambda entry: settled(entry, mount_id)))
        if not is_delivered:
            self._release_lost_mount(lock, may_retry=True)

    def _release_lost_mount(self, lock: VolumeLock, *, may_retry: bool) -> None:
        """Schedule the detach of what an unanswered Mount attached; a retry cancels it."""
        node = self._node
        entry, deadlines = node.ledger.get(lock.name), node.deadlines
        if entry is not None and entry.is_claimed:
            if entry.unconfirmed or entry.holders_unknown:
                self._releaser.schedule_trial(lock.name, deadlines.mount_grace_s)
        elif may_retry:
            self._releaser.schedule(lock.name, deadlines.long_linger_s)
        elif entry is not None and entry.desired is not Desired.NONE:
            self._releaser.schedule(lock.name, node.linger_s(entry.backend))
