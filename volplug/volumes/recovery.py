"""What to do at start with what an earlier life of this process left behind, volume by volume."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Final

import structlog

from volplug.errors import VolplugError
from volplug.models import MountState, Volume, VolumeState
from volplug.names import is_name
from volplug.volumes.convergence import Goal
from volplug.volumes.job import Conditions
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.releases import Releases
from volplug.volumes.site import Site
from volplug.volumes.slots import Slot

_LOG = structlog.get_logger(__name__)
_FIRST_RETRY_S: Final = 1.0
_HALF_DONE: Final = {
    Desired.PRESENT: (frozenset({VolumeState.INCOMPLETE, VolumeState.CREATING}), Goal.PRESENT),
    Desired.ABSENT: (frozenset({VolumeState.DELETING}), Goal.ABSENT),
}


class Recovery:
    """Recovers each volume under its lock, so that calls for that volume, and only those, wait for it."""

    def __init__(self, site: Site, releases: Releases) -> None:
        self._site = site
        self._releases = releases

    async def begin(self) -> list[asyncio.Task[None]]:
        """Lock every volume that is remembered or found mounted, and return what recovers and unlocks it."""
        entries = list(self._site.ledger.entries())
        self._site.perhaps_leaving.update(entry.name for entry in entries if not entry.is_claimed)
        names = {entry.name for entry in entries}
        places = await self._site.host(self._site.default_backend).mounts_below(self._site.mount_root)
        names |= {name for name in (PurePath(place).name for place in places) if is_name(name)}
        retry_s = min(_FIRST_RETRY_S, self._site.limits.retry_max_s)
        slots = [self._site.slots.of(name) for name in sorted(names)]
        for slot in slots:
            await slot.acquire()
        for backend in self._site.backends:
            # Not at once: a cloud may still show the past of what the life before did last.
            self._search_later(backend, self._site.limits.settle_s, retry_s)
        return [asyncio.create_task(self._recover_one(slot, retry_s)) for slot in slots]

    def _search_later(self, backend: str, delay_s: float, retry_s: float) -> None:
        action = partial(self._find_attached, backend, retry_s)
        # No volume has a blank in its name.
        self._site.timers.schedule(f"search of {backend}", delay_s, action)

    async def _find_attached(self, backend: str, retry_s: float) -> None:
        """Let go of what this host has attached and nobody remembers: the state was lost in a linger."""
        driver = self._site.driver(backend)
        try:
            volumes = await driver.list()
        except Exception as error:  # whatever ails the backend, it is asked again
            is_expected = isinstance(error, VolplugError)
            _LOG.warning("not searched yet", backend=backend, error=str(error), exc_info=not is_expected)
            self._search_later(backend, retry_s, min(retry_s * 2, self._site.limits.retry_max_s))
            return
        for volume in volumes:
            if volume.holder == driver.node_id:
                await self._let_go_if_unwanted(volume)

    async def _let_go_if_unwanted(self, volume: Volume) -> None:
        site, name = self._site, volume.name
        async with site.slots.of(name):
            entry = site.ledger.get(name) or Entry(name, volume.backend, record=volume)
            if site.is_in_use(name) or entry.desired is not Desired.NONE:
                return
            await site.ledger.put(replace(entry, desired=Desired.DETACHED))
            self._releases.schedule(name, 0)

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
        host, target = site.host(entry.backend), site.target(name)
        is_mounted = await host.mount_state(target, None) is not MountState.NONE
        if not is_mounted:
            await host.unmount(target)  # removes the bare directory of a mount never made
        if is_mounted and entry.desired is Desired.NONE and not (entry.counts or entry.doubts):
            _LOG.warning("mounted, but nothing says for whom", volume=name)
            await site.ledger.put(replace(entry, holders_unknown=True))
            await site.identify(name)
            self._releases.schedule_trial(name, site.limits.settle_s)
            return
        if entry.is_claimed and (is_mounted or await self._is_held(entry)):
            # An Unmount that was sent while nobody listened is lost for ever.
            await self._releases.doubt(name, may_begin=True)
            return
        if entry.is_claimed or entry.desired is not Desired.NONE:
            await site.ledger.put(replace(entry.without_claims(), desired=Desired.DETACHED))
            self._releases.schedule(name, 0)

    async def _is_held(self, entry: Entry) -> bool:
        """Tell whether containers use a device whose mount went with our old mount namespace."""
        if entry.record is None:
            return False
        source = await self._site.driver(entry.backend).locate(entry.record)
        return source is not None and await self._site.host(entry.backend).is_held(source, patience_s=0)

    async def _finish_half_done(self, entry: Entry) -> None:
        """Finish a creation or deletion only if the backend shows that it had begun.

        Otherwise the caller was told of a failure and nothing has happened: it stays so.
        """
        site, name = self._site, entry.name
        states, goal = _HALF_DONE[entry.desired]
        volume = await site.driver(entry.backend).get(name)
        if volume is None:
            await site.ledger.forget(name)
            return
        if volume.state in states:
            await site.converge("recover", name, entry.backend, goal, Conditions(only_id=volume.volume_id))
        if (now := site.ledger.get(name)) is not None:
            await site.ledger.put(replace(now, desired=Desired.DETACHED))
            self._releases.schedule(name, 0)
