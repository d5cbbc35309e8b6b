"""The use cases: what Docker asks for, made idempotent, bounded in time and safe to repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from volplug.errors import (
    BackendUnavailable,
    ErrorContext,
    InvalidName,
    VolplugError,
    VolumeNotFound,
)
from volplug.models import Volume
from volplug.names import check_name
from volplug.volumes.convergence import Goal
from volplug.volumes.creations import Creations
from volplug.volumes.holder_watch import plan_takeover
from volplug.volumes.holding import TakeoverPlan
from volplug.volumes.ledger import Desired, EngineIdentity, Entry
from volplug.volumes.lists import Lists
from volplug.volumes.lookups import Lookups
from volplug.volumes.mounting import Client, MountAnswer, Mounting
from volplug.volumes.options import Defaults
from volplug.volumes.recovery import Recovery
from volplug.volumes.releases import Releases
from volplug.volumes.site import Site
from volplug.volumes.usage import UsageSampler
from volplug.volumes.views import VolumeView, view_volume
from volplug.volumes.work import Work

_LOG = structlog.get_logger(__name__)


class VolumeService:
    """Docker's eight verbs on the volumes of this host's backends."""

    def __init__(self, site: Site, defaults: Defaults) -> None:
        self._site = site
        self._releases = Releases(site)
        self._recovery = Recovery(site, self._releases)
        self._lookups = Lookups(site.backends, site.limits.lookup_s)
        self._creations = Creations(site, defaults, self._lookups)
        self._usage = UsageSampler()
        self._lists = Lists(site.ledger, self._view)
        self._work = Work()
        self._mounting = Mounting(site, self._releases, self._work, self._backend_of)

    # Life

    async def start(self) -> None:
        """Begin to recover what an earlier life left; calls for a volume wait for that volume only."""
        for task in await self._recovery.begin():
            self._work.keep(task)

    async def stop(self, timeout_s: float) -> None:
        """End what lingers by detaching it now, and wait for what runs; nothing is unmounted."""
        self._site.timers.flush()
        running = self._work.running | self._site.timers.running
        if running:
            await asyncio.wait(running, timeout=timeout_s)

    @property
    def is_working(self) -> bool:
        """Tell whether anything runs, whether a caller waits for it or not."""
        return bool(self._work.running or self._site.timers.running)

    async def engine_seen(self, engine: EngineIdentity) -> None:
        """Note which run of the Docker engine speaks; a new one may have forgotten the old one's mounts."""
        site = self._site
        before = site.ledger.engine
        if before == engine:
            return
        await self._work.behind(site.ledger.note_engine(engine))
        if before is not None and not site.is_engine_alive(before):
            claimed = [entry.name for entry in site.ledger.entries() if entry.is_claimed]
            _LOG.info("the engine was restarted", pid=engine.pid, volumes_in_use=len(claimed))
            for name in claimed:
                await self._work.behind(self._releases.doubt(name, may_begin=False))

    # Docker's verbs

    async def create(self, name: str, options: Mapping[str, str]) -> None:
        """Provision a volume; one that exists and is the same is success."""
        context = ErrorContext("create", check_name_for("create", name))
        await self._work.answered(
            self._creations.create(name, options), self._site.limits.slow_answer_s, context
        )

    async def remove(self, name: str) -> None:
        """Delete a volume that nobody uses; one that does not exist is success."""
        context = ErrorContext("remove", check_name_for("remove", name))
        await self._work.answered(self._remove(name), self._site.limits.answer_s, context)

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """Attach, format once and mount; counted once per answered call."""
        return await self._mounting.mount(check_name_for("mount", name), mount_id, client)

    async def unmount(self, name: str, mount_id: str) -> None:
        """Take back one mount; after the last, unmount and release now and detach behind."""
        context = ErrorContext("unmount", check_name_for("unmount", name))
        await self._work.answered(self._unmount(name, mount_id), self._site.limits.answer_s, context)

    async def path(self, name: str) -> str:
        """Return where the volume is mounted, empty if it is not."""
        return (await self.get(name)).mountpoint

    async def get(self, name: str) -> VolumeView:
        """Describe a volume: from memory if this host has it, from its backend otherwise.

        Raises:
            VolumeNotFound: If there is certainly no such volume. dockerd forgets it then.
            VolplugError: Anything else means that nobody knows; it must not be answered.
        """
        context = ErrorContext("get", name)
        try:
            check_name(name)
        except InvalidName as error:
            raise VolumeNotFound("no such volume").in_context(context) from error
        entry = self._site.ledger.get(name)
        if entry is not None and entry.record is not None:
            if entry.is_busy:
                return self._view(entry.record, entry)
            if (kept := self._lookups.kept(name, entry.backend)) is not None:
                return self._view(kept, entry)
        return self._view(await self._look_up(name, entry, context), self._site.ledger.get(name))

    async def list(self) -> Sequence[VolumeView]:
        """Describe all volumes; those of a backend that does not answer as they were last known.

        Returns:
            The same object as before if nothing has changed since.

        Raises:
            BackendUnavailable: If a backend does not answer and no volume is known, which must not look as if
                there were none.
        """
        answers = await self._lookups.find_all()
        failed = {name: answer for name, answer in answers.items() if isinstance(answer, BaseException)}
        for backend, error in failed.items():
            _LOG.warning("listed from memory", backend=backend, error=str(error))
        views = self._lists.views(answers)
        if failed and not views:
            backend, error = next(iter(failed.items()))
            raise BackendUnavailable(f"backend {backend} cannot be listed: {error}") from error
        return views

    async def plan_takeover(self, name: str) -> TakeoverPlan:
        """Tell what a Mount here would do about the node that has the volume; changes nothing.

        Raises:
            VolumeNotFound: If there is no such volume.
            VolplugError: If the backend cannot say.
        """
        context = ErrorContext("plan the takeover of", check_name_for("plan the takeover of", name))
        volume = await self._lookups.find(name)
        if volume is None:
            raise VolumeNotFound("no such volume").in_context(context)
        return await plan_takeover(volume, self._site.driver(volume.backend), self._site.takeover)

    # How

    async def _let_go_of_kept(self, name: str) -> None:
        """Detach in time what a failed Remove may have released but not deleted."""
        entry = self._site.ledger.get(name)
        if entry is not None and entry.desired in {Desired.ABSENT, Desired.DETACHED}:
            await self._site.ledger.put(replace(entry, desired=Desired.DETACHED))
            self._releases.schedule(name, self._site.linger_s(entry.backend))

    async def _remove(self, name: str) -> None:
        site = self._site
        async with site.slots.of(name):
            backend = await self._backend_of(name)
            entry = site.ledger.get(name)
            if entry is not None and (entry.is_claimed or site.slots.of(name).pending):
                await self._releases.trial_release(entry, site.patience.release_s)
            try:
                await site.converge("remove", name, backend, Goal.ABSENT)
            except Exception:
                await self._let_go_of_kept(name)
                raise
            finally:
                self._lookups.forget(name)
            self._usage.forget(name)

    async def _unmount(self, name: str, mount_id: str) -> None:
        site = self._site
        slot = site.slots.of(name)
        entry = await self._take_back(name, mount_id)
        if entry is None:
            return
        async with slot:
            entry = site.ledger.get(name)
            if entry is None or slot.pending or entry.counts or entry.doubts:
                if entry is not None and entry.is_doubtful:
                    self._releases.schedule_trial(name, 0)
                return
            if not entry.holders_unknown:
                await self._release(entry)
            elif not await self._releases.is_released_by_trial(entry):
                return
        self._releases.schedule(name, site.linger_s(entry.backend))

    async def _take_back(self, name: str, mount_id: str) -> Entry | None:
        """Take back the count at once: dockerd never repeats an Unmount, so it must not be lost."""
        entry = self._site.ledger.get(name)
        if entry is None:
            return None
        entry = entry.without_mount(mount_id)
        if not entry.is_claimed and entry.desired is Desired.MOUNTED:
            entry = replace(entry, desired=Desired.DETACHED)
        await self._site.ledger.put(entry)
        return entry if entry.desired is not Desired.NONE or entry.is_claimed else None

    async def _release(self, entry: Entry) -> None:
        try:
            await self._site.converge("unmount", entry.name, entry.backend, Goal.RELEASED)
        except Exception:
            self._releases.schedule(entry.name, 1.0)
            raise
        self._usage.forget(entry.name)

    async def _backend_of(self, name: str) -> str:
        """Return the backend that has the volume, or the default one if none is known to."""
        entry, site = self._site.ledger.get(name), self._site
        is_known = entry is not None and entry.record is not None
        if entry is not None and is_known and (entry.is_busy or len(site.backends) == 1):
            return entry.backend
        if len(site.backends) == 1:
            return site.default_backend
        volume = await self._lookups.find(name)
        return volume.backend if volume else site.default_backend

    async def _look_up(self, name: str, entry: Entry | None, context: ErrorContext) -> Volume:
        try:
            volume = await self._lookups.find(name, entry.backend if entry and entry.record else None)
            if volume is None and len(self._site.backends) > 1:
                volume = await self._lookups.find(name)  # it may have moved to another backend
        except Exception as error:  # whatever it is, what is known is better than no answer
            if entry is not None and entry.record is not None:
                _LOG.warning("answered from memory", volume=name, error=str(error))
                return entry.record
            if isinstance(error, VolplugError):
                raise error.in_context(context) from error.__cause__
            raise
        return await self._reconciled(name, volume, context)

    async def _reconciled(self, name: str, volume: Volume | None, context: ErrorContext) -> Volume:
        """Weigh a backend's answer against what this host does with the volume meanwhile; that is newer."""
        ledger = self._site.ledger
        now = ledger.get(name)
        if now is not None and now.record is not None and now.is_busy:
            return now.record
        if volume is not None:
            await self._work.behind(ledger.remember(volume))
            return volume
        if now is not None and now.is_claimed:
            raise BackendUnavailable("it is mounted here, but no backend knows it").in_context(context)
        if now is not None and now.desired is Desired.NONE:
            await self._work.behind(ledger.forget(name))
        raise VolumeNotFound("no such volume").in_context(context)

    def _view(self, volume: Volume, entry: Entry | None) -> VolumeView:
        site, name = self._site, volume.name
        is_mounted = entry is not None and entry.is_claimed
        usage = None
        if is_mounted:
            usage = self._usage.last(site.host(volume.backend), name, site.target(name))
        driver = site.backends.get(volume.backend)
        driver_name = driver.info.driver if driver else "not configured"
        return view_volume(volume, entry, site.mountpoint(name, volume), driver_name, usage)


def check_name_for(operation: str, name: str) -> str:
    """Check a name, and say in the error what was asked for."""
    try:
        return check_name(name)
    except InvalidName as error:
        raise error.in_context(ErrorContext(operation)) from None
