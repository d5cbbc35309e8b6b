"""Letting go of volumes: after the last unmount, by trial when counts are in doubt, again until it works."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from volplug.errors import VolplugError, VolumeInUse
from volplug.models import MountState
from volplug.volumes.convergence import Goal
from volplug.volumes.job import Conditions
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.site import Site
from volplug.volumes.slots import Slot

_LOG = structlog.get_logger(__name__)
_FIRST_RETRY_S: Final = 1.0
_TRIAL_RETRY_S: Final = 60.0  # whatever was ending at the first trial has ended


class Releases:
    """Release, trial release and the retry of what could not be released."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._doubted_mount_s: dict[str, float] = {}

    def schedule(self, name: str, delay_s: float) -> None:
        """Detach the volume after the delay unless it is in use again by then; retried until it works."""
        slot = self._site.slots.of(name)
        first_retry_s = min(_FIRST_RETRY_S, self._site.limits.retry_max_s)
        self._site.timers.schedule(name, delay_s, partial(self._settle, slot, first_retry_s), at_stop=True)

    def schedule_trial(self, name: str, delay_s: float, retry_s: float = 0.0) -> None:
        """Doubt the counts of a volume after the delay: its engine may have forgotten them.

        Args:
            name: The volume's.
            delay_s: Until the trial.
            retry_s: From a trial that is not passed to the next, at least.
        """
        slot = self._site.slots.of(name)
        self._site.timers.schedule(name, delay_s, partial(self._try_to_settle, slot, retry_s))

    async def doubt(self, name: str, *, may_begin: bool) -> None:
        """Put all counts of a volume in doubt, and try them once they have had time to be used.

        Args:
            name: The volume's.
            may_begin: Whether the container of a recent Mount may be about to begin: the engine lives on.
        """
        entry = self._site.ledger.get(name)
        if entry is not None:
            self._doubted_mount_s.pop(name, None)
            if may_begin:
                self._doubted_mount_s[name] = entry.mounted_at_s
            await self._site.ledger.put(entry.with_all_doubted())
        self.schedule_trial(name, self._site.limits.settle_s)

    async def trial_release(self, entry: Entry, patience_s: float) -> Entry:
        """Find out whether anybody really uses a volume that is counted as used; the caller holds its lock.

        Passed: the counts are dropped and the volume is unmounted. Not passed: it is mounted again as it was.

        Args:
            entry: The volume.
            patience_s: How long to wait for its last user to go.

        Returns:
            The entry without claims.

        Raises:
            VolumeInUse: If it is used, or a Mount was answered so recently that its container may be about
                to use it, or nobody can tell which device to test.
        """
        site, name = self._site, entry.name
        self._refuse_if_recent(entry)
        was_mounted = await self._is_mounted(entry)
        if was_mounted and entry.record is None:
            entry = await self._identified(entry)
        try:
            await site.converge(
                "release", name, entry.backend, Goal.RELEASED, Conditions(patience_s=patience_s)
            )
        except Exception:
            if was_mounted:
                await self._put_back(entry)
            raise
        _LOG.warning("counts dropped: nobody uses the volume", volume=name, mount_count=entry.mount_count)
        released = replace(site.ledger.get(name) or entry, desired=Desired.DETACHED).without_claims()
        await site.ledger.put(released)
        return released

    async def _identified(self, entry: Entry) -> Entry:
        """Ask the backends once more: after an unmount nobody could tell which device to test."""
        with contextlib.suppress(VolplugError):
            await self._site.identify(entry.name)
        known = self._site.ledger.get(entry.name)
        if known is None or known.record is None:
            raise VolumeInUse(
                "it is mounted here, and which volume it is cannot be told", "See the log of volplug"
            )
        return known

    async def _is_mounted(self, entry: Entry) -> bool:
        site = self._site
        state = await site.host(entry.backend).mount_state(site.target(entry.name), None)
        return state is not MountState.NONE

    async def _put_back(self, entry: Entry) -> None:
        """Mount again what a trial unmounted; tried until it works, for `docker cp` needs it."""
        site, name = self._site, entry.name
        try:
            await site.converge("put back", name, entry.backend, Goal.MOUNTED)
        except Exception as error:  # the trial's own error is the one to show
            _LOG.warning("not put back yet", volume=name, error=str(error))
            action = partial(self._put_back_later, site.slots.of(name))
            # Under a name of its own: it must not replace what is scheduled for the volume by others.
            site.timers.schedule(f"put back {name}", site.limits.retry_max_s / 10, action)

    async def _put_back_later(self, slot: Slot) -> None:
        async with slot:
            entry = self._site.ledger.get(slot.name)
            if entry is not None and entry.is_claimed and not await self._is_mounted(entry):
                await self._put_back(entry)

    async def is_released_by_trial(self, entry: Entry, retry_s: float = 0.0) -> bool:
        """Try a trial release that nobody waits for; tell whether it passed. If not, it is tried again later.

        After longer and longer pauses: a container that has just ended may hold the volume a moment longer,
        and each trial unmounts what a running one uses. Here even a Mount in doubt is left alone while it is
        recent: its container may be about to begin.
        """
        doubted_for_s = self._site.boot_clock() - self._doubted_mount_s.get(entry.name, -math.inf)
        settles_in_s = self._site.limits.settle_s - doubted_for_s
        if settles_in_s > 0:
            self.schedule_trial(entry.name, settles_in_s)
            return False
        try:
            await self.trial_release(entry, self._site.patience.mount_s)
        except Exception as error:  # nobody waits for it, and the counts stay
            is_expected = isinstance(error, VolplugError)
            _LOG.info("counts kept", volume=entry.name, reason=str(error), exc_info=not is_expected)
            # The engine may have forgotten the container that it was counted for, and never send an Unmount.
            limits = self._site.limits
            pause_s = min(max(retry_s, _TRIAL_RETRY_S), limits.retry_max_s)
            self.schedule_trial(entry.name, pause_s, pause_s * 2)
            return False
        return True

    def _refuse_if_recent(self, entry: Entry) -> None:
        site = self._site
        age_s = site.boot_clock() - entry.mounted_at_s
        if site.slots.of(entry.name).pending:
            raise VolumeInUse("it is being mounted", "Wait for the container to start, then stop it")
        if entry.counts and age_s < site.limits.settle_s:
            raise VolumeInUse(
                f"it was mounted for Docker {age_s:.0f} s ago and not unmounted",
                f"Stop the container that uses it, or try again in {site.limits.settle_s - age_s:.0f} s",
            )

    async def _settle(self, slot: Slot, retry_s: float) -> None:
        site, name = self._site, slot.name
        async with slot:
            entry = site.ledger.get(name)
            if entry is None or site.is_in_use(name) or entry.desired in {Desired.PRESENT, Desired.ABSENT}:
                return  # in use, or the business of recovery
            try:
                await site.converge("detach", name, entry.backend, Goal.DETACHED)
            except Exception as error:  # a bug or a dead device must not end the retries
                await self._retry(slot, entry, error, retry_s)
                return
            if (now := site.ledger.get(name)) is not None:
                await site.ledger.put(replace(now, desired=Desired.NONE, last_error=""))

    async def _retry(self, slot: Slot, entry: Entry, error: Exception, retry_s: float) -> None:
        site = self._site
        text = str(error)
        if entry.last_error != text:
            is_expected = isinstance(error, VolplugError)
            _LOG.warning("will be retried", volume=slot.name, error=text, exc_info=not is_expected)
        longer_s = min(retry_s * 2, site.limits.retry_max_s)
        site.timers.schedule(slot.name, retry_s, partial(self._settle, slot, longer_s))
        current = site.ledger.get(slot.name) or entry
        await site.ledger.put(replace(current, desired=Desired.DETACHED, last_error=text))

    async def _try_to_settle(self, slot: Slot, retry_s: float) -> None:
        site = self._site
        async with slot:
            entry = site.ledger.get(slot.name)
            if entry is None or not entry.is_doubtful:
                return
            if not await self.is_released_by_trial(entry, retry_s):
                return
        self.schedule(slot.name, 0)
