"""What to do at start with what an earlier life of this process left behind, volume by volume."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Final

import structlog

from volplug.errors import VolplugError
from volplug.models import MountState, VolumeState
from volplug.volumes.convergence import Goal
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.releases import Releases
from volplug.volumes.site import Site
from volplug.volumes.slots import Slot

_LOG = structlog.get_logger(__name__)
_FIRST_RETRY_S: Final = 1.0
_HALF_DONE: Final = {
    Desired.PRESENT: (VolumeState.CREATING, Goal.PRESENT),
    Desired.ABSENT: (VolumeState.DELETING, Goal.ABSENT),
}


class Recovery:
    """Recovers each volume under its lock, so that calls for that volume, and only those, wait for it."""

    def __init__(self, site: Site, releases: Releases) -> None:
        self._site = site
        self._releases = releases

    async def begin(self) -> list[asyncio.Task[None]]:
        """Lock every volume that is remembered or found mounted, and return what recovers and unlocks it."""
        names = {entry.name for entry in self._site.ledger.entries()}
        names |= {PurePath(path).name for path in await self._site.host.mounts_below(self._site.mount_root)}
        retry_s = min(_FIRST_RETRY_S, self._site.limits.retry_max_s)
        slots = [self._site.slots.of(name) for name in sorted(names)]
        for slot in slots:
            await slot.acquire()
        tasks = [asyncio.create_task(self._recover_one(slot, retry_s)) for slot in slots]
        if not names:
            tasks.append(asyncio.create_task(self._find_attached()))
        return tasks

    async def _find_attached(self) -> None:
        """With nothing remembered, let go of what this host has attached: the state was lost in a linger."""
        for backend, driver in self._site.backends.items():
            try:
                volumes = await driver.list()
            except VolplugError as error:
                _LOG.warning("not searched for attached volumes", backend=backend, error=str(error))
                continue
            for volume in volumes:
                if volume.holder == driver.node_id and self._site.ledger.get(volume.name) is None:
                    await self._site.ledger.put(
                        Entry(volume.name, backend, desired=Desired.DETACHED, record=volume)
                    )
                    self._releases.schedule(volume.name, self._site.limits.settle_s)

    async def _recover_one(self, slot: Slot, retry_s: float) -> None:
        """Recover a volume whose lock is held, then unlock it; tried again later if that fails."""
        try:
            await self._settle_what_was_left(slot.name)
        except Exception as error:  # one broken volume must not keep the others from being recovered
            is_expected = isinstance(error, VolplugError)
            _LOG.warning("not recovered yet", volume=slot.name, error=str(error), exc_info=not is_expected)
            longer_s = min(retry_s * 2, self._site.limits.retry_max_s)
            action = partial(self._recover_again, slot, longer_s)
            # Under a name of its own: what is scheduled for the volume by others must not replace it.
            self._site.timers.schedule(f"recovery of {slot.name}", retry_s, action)
        finally:
            slot.release()

    async def _recover_again(self, slot: Slot, retry_s: float) -> None:
        await slot.acquire()
        if slot.pending:
            slot.release()  # a Mount is under way and finds out for itself
            return
        await self._recover_one(slot, retry_s)

    async def _settle_what_was_left(self, name: str) -> None:
        site = self._site
        entry = site.ledger.get(name) or Entry(name, site.default_backend)
        if entry.desired in _HALF_DONE:
            await self._finish_half_done(entry)
            return
        is_mounted = await site.host.mount_state(site.target(name), None) is not MountState.NONE
        if not is_mounted:
            await site.host.unmount(site.target(name))  # removes the bare directory of a mount never made
        if is_mounted and entry.desired is Desired.NONE and not (entry.counts or entry.doubts):
            _LOG.warning("mounted, but nothing says for whom", volume=name)
            await site.ledger.put(replace(entry, holders_unknown=True))
            await self._identify(name)
            self._releases.schedule_trial(name, site.limits.settle_s)
            return
        if entry.is_claimed and (is_mounted or await self._is_held(entry)):
            # An Unmount that was sent while nobody listened is lost for ever.
            now = site.ledger.get(name) or entry  # an Unmount may have come in meanwhile
            await site.ledger.put(now.with_all_doubted())
            self._releases.schedule_trial(name, site.limits.settle_s)
            return
        if entry.is_claimed or entry.desired is not Desired.NONE:
            await site.ledger.put(replace(entry.without_claims(), desired=Desired.DETACHED))
            self._releases.schedule(name, 0)

    async def _identify(self, name: str) -> None:
        """Learn from the backends what a mount without memory is.

        Raises:
            VolplugError: If none knows it and one could not be asked; to be tried again.
        """
        failure: VolplugError | None = None
        for driver in self._site.backends.values():
            try:
                volume = await driver.get(name)
            except VolplugError as error:
                failure = error
                continue
            if volume is not None:
                await self._site.ledger.remember(volume)
                return
        if failure is not None:
            raise failure

    async def _is_held(self, entry: Entry) -> bool:
        """Tell whether containers use a device whose mount went with our old mount namespace."""
        if entry.record is None:
            return False
        source = await self._site.driver(entry.backend).locate(entry.record)
        return source is not None and await self._site.host.is_held(source, patience_s=0)

    async def _finish_half_done(self, entry: Entry) -> None:
        """Finish a creation or deletion only if the backend shows that it had begun.

        Otherwise the caller was told of a failure and nothing has happened: it stays so.
        """
        site, name = self._site, entry.name
        state, goal = _HALF_DONE[entry.desired]
        volume = await site.driver(entry.backend).get(name)
        if volume is None:
            await site.ledger.forget(name)
            return
        if volume.state is state:
            await site.converge("recover", name, entry.backend, goal)
        if (now := site.ledger.get(name)) is not None:
            await site.ledger.put(replace(now, desired=Desired.DETACHED))
            self._releases.schedule(name, 0)
