"""Mount: converging, counting, and what becomes of a Mount whose answer does not reach its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from volplug.errors import ClientGone, ErrorContext, OperationTimeout
from volplug.models import Volume
from volplug.volumes.convergence import Goal
from volplug.volumes.job import Conditions
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.releases import Releases
from volplug.volumes.site import Site
from volplug.volumes.slots import Slot
from volplug.volumes.work import Work


class Client(Protocol):
    """Who waits for an answer."""

    def is_gone(self) -> bool:
        """Tell whether the connection has been closed by the other side."""
        ...


@dataclass(frozen=True, slots=True)
class MountAnswer:
    """The answer to a Mount. It is counted in doubt until it is known what became of it.

    Attributes:
        path: For Docker.
        slot: The volume's; kept from unmounting until then.
        settle: What is done then.
    """

    path: str
    slot: Slot
    settle: Callable[[bool], None]

    def answered(self, is_delivered: bool) -> None:  # a callback of the transport
        """Count the Mount for certain if its answer was written to an open connection, or take it back.

        In this order, and at once: a trial that saw it neither pending nor counted would unmount the volume.
        """
        self.settle(is_delivered)
        self.slot.end_mount()


@dataclass(slots=True)
class _Call:
    """One Mount that waits for its answer.

    Attributes:
        client: Who waits.
        is_over: Whether the call has ended, in time or not.
    """

    client: Client
    is_over: bool = False

    def is_lost(self) -> bool:
        """Tell whether an answer can no longer reach the client."""
        return self.is_over or self.client.is_gone()


class Mounting:
    """The Mounts of this host."""

    def __init__(
        self, site: Site, releases: Releases, work: Work, backend_of: Callable[[str], Awaitable[str]]
    ) -> None:
        self._site = site
        self._releases = releases
        self._work = work
        self._backend_of = backend_of

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """See `VolumeService.mount`; the name is checked already.

        Raises:
            ClientGone: If the client left before the answer.
            OperationTimeout: If the limit of an answer is over; the work goes on, and a retry joins it.
            VolplugError: Why the volume cannot be mounted.
        """
        site = self._site
        context = ErrorContext("mount", name)
        slot, call = site.slots.of(name), _Call(client)
        site.timers.cancel(name)
        slot.begin_mount()
        try:
            path = await self._work.answered(
                self._mount(slot, mount_id, call), site.limits.slow_answer_s, context
            )
        except BaseException as error:
            call.is_over = True
            slot.end_mount()
            self._let_go_of_lost_mount(slot, may_retry=isinstance(error, (ClientGone, OperationTimeout)))
            raise
        return MountAnswer(path, slot, partial(self._settle_mount, slot, mount_id))

    async def _mount(self, slot: Slot, mount_id: str, call: _Call) -> str:
        try:
            volume, backend = await self._mounted(slot, call)
            await self._count(slot.name, mount_id, call, backend)
        finally:
            if call.is_over:  # the work outlived its call
                self._let_go_of_lost_mount(slot, may_retry=True)
        return self._site.mountpoint(slot.name, volume)

    async def _mounted(self, slot: Slot, call: _Call) -> tuple[Volume | None, str]:
        """Return the volume, mounted here, and its backend."""
        site = self._site
        conditions = Conditions(
            is_wanted=lambda: not call.client.is_gone(),
            holder_wait_s=site.limits.release_wait_s,
            takeover=site.takeover,
        )
        async with slot:
            backend = await self._backend_of(slot.name)
            return await site.converge("mount", slot.name, backend, Goal.MOUNTED, conditions), backend

    async def _count(self, name: str, mount_id: str, call: _Call, backend: str) -> None:
        """Count a Mount just before its answer, in doubt until that is out (`MountAnswer`).

        Raises:
            ClientGone: If nobody waits for the answer any more; the Mount is not counted then.
        """
        lost = ClientGone("the client left before the answer").in_context(ErrorContext("mount", name))
        if call.is_lost():
            raise lost
        ledger = self._site.ledger
        entry = ledger.get(name) or Entry(name, backend)
        counted = entry.with_mount(mount_id, self._site.boot_clock())
        await ledger.put(replace(counted, desired=Desired.MOUNTED, last_error=""))
        if call.is_lost():  # while it was written, which a slow disk may make long
            if (now := ledger.get(name)) is not None:
                await ledger.put(now.without_doubt(mount_id))
            raise lost

    def _settle_mount(self, slot: Slot, mount_id: str, is_delivered: bool) -> None:
        entry = self._site.ledger.get(slot.name)
        if entry is not None:
            now = entry.with_answer(mount_id) if is_delivered else entry.without_doubt(mount_id)
            self._work.keep(asyncio.ensure_future(self._site.ledger.put_soon(now)))
        if not is_delivered:
            self._let_go_of_lost_mount(slot, may_retry=True)

    def _let_go_of_lost_mount(self, slot: Slot, *, may_retry: bool) -> None:
        """Let go of what an unanswered Mount attached; a retry ends that."""
        entry, limits = self._site.ledger.get(slot.name), self._site.limits
        if entry is not None and entry.is_claimed:
            if entry.doubts or entry.holders_unknown:
                self._releases.schedule_trial(slot.name, limits.settle_s)
        elif may_retry:
            self._releases.schedule(slot.name, limits.long_linger_s)
        elif entry is not None and entry.desired is not Desired.NONE:
            self._releases.schedule(slot.name, self._site.linger_s(entry.backend))
