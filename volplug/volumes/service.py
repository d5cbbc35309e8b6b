"""The use cases: Docker's verbs, made idempotent, bounded in time and safe to repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from volplug.errors import (
    BackendNotFound,
    BackendUnavailable,
    DuplicateVolumes,
    ErrorContext,
    InvalidName,
    VolplugError,
    VolumeNotFound,
)
from volplug.models import EngineIdentity, Volume
from volplug.names import check_name
from volplug.volumes import failures
from volplug.volumes.catalog import Catalog, VolumeListCache
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.create import Creator, request_to_json
from volplug.volumes.decision import Goal
from volplug.volumes.durable_operations import DurableOperations
from volplug.volumes.events import EventKind, EventLog
from volplug.volumes.handover import Handover
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.monitor import NodeMonitor
from volplug.volumes.mount import Client, MountAnswer, Mounter
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import ApiCall, ApiVerb, Operation, Operations, Work
from volplug.volumes.options import CreateRequest, Defaults
from volplug.volumes.overview import Overview
from volplug.volumes.readiness import Readiness
from volplug.volumes.recovery import Recovery
from volplug.volumes.release import Releaser
from volplug.volumes.remove import Remover
from volplug.volumes.resolution import Resolution
from volplug.volumes.selection import Selection
from volplug.volumes.takeover import TakeoverPlan, plan_takeover
from volplug.volumes.usage_sampler import UsageSample, UsageSampler
from volplug.volumes.views import (
    BackendView,
    NodeView,
    VolumeView,
    view_duplicates,
    view_volume,
)

_LOG = structlog.get_logger(__name__)


class VolumeService:
    """Docker's eight verbs on the volumes of this node's backends."""

    def __init__(self, node: LocalNode, defaults: Defaults) -> None:
        self._node = node
        self._converger = Converger(node)
        self._releaser = Releaser(node, self._converger)
        self._recovery = Recovery(node, self._converger, self._releaser)
        self._catalog = Catalog(node.backends, node.deadlines.lookup_s)
        self._creator = Creator(node, self._converger, self._catalog, defaults)
        selection = Selection(node, self._catalog)
        self._mounter = Mounter(node, self._converger, self._releaser, selection)
        self._usage = UsageSampler()
        self._remover = Remover(node, self._converger, self._releaser, self._catalog, self._usage, selection)
        self._handover = Handover(node, self._converger, self._catalog, selection)
        self._durable = DurableOperations(node.operations, node.operation_store, node.on_step)
        self._resolution = Resolution(node, self._durable, self._creator, self._catalog)
        self._overview = Overview(node, self._catalog)
        self.monitor = NodeMonitor(node, self._usage, Readiness(node, self._overview, self._recovery))
        self._list_cache = VolumeListCache(node.ledger, self._view)

    # Life

    async def start(self) -> None:
        """Start to recover what a previous process left; calls for a volume wait for that volume only."""
        await self._recovery.begin()
        self._resolution.begin()

    async def stop(self, timeout_s: float) -> None:
        """Detach what lingers now, and wait for what runs; nothing is unmounted."""
        self._node.timers.flush()
        if running := self._running():
            await asyncio.wait(running, timeout=timeout_s)

    @property
    def is_working(self) -> bool:
        """Tell whether any task runs, whether a caller waits for it or not."""
        return bool(self._running())

    def _running(self) -> set[asyncio.Future[Any]]:
        return self._node.tasks.running | self._node.timers.running

    async def engine_seen(self, engine: EngineIdentity) -> None:
        """Record which run of the Docker engine connected; a new one may have forgotten its mounts."""
        node = self._node
        before = node.ledger.engine
        if before == engine:
            return
        node.tasks.start_write(node.ledger.note_engine(engine))
        if before is not None and not node.is_engine_alive(before):
            claimed = [entry.name for entry in node.ledger.entries() if entry.is_claimed]
            node.events.record(
                "info",
                EventKind.CHANGE,
                "the engine was restarted",
                pid=engine.pid,
                volumes_in_use=len(claimed),
            )
            for name in claimed:
                node.tasks.start_write(self._releaser.unconfirm(name, may_begin=False))

    # Docker's verbs

    async def create(self, request: CreateRequest) -> None:
        """Provision a volume; one that exists and is the same is success."""
        name = check_name_for("create", request.name)
        create = partial(self._creator.create, request)
        await failures.wait_for(self._node, "create", name, create, self._node.deadlines.slow_answer_s)

    async def remove(self, name: str) -> None:
        """Delete a volume that is not in use; one that does not exist is success."""
        check_name_for("remove", name)
        remove = partial(self._remover.remove, name)
        await failures.wait_for(self._node, "remove", name, remove, self._node.deadlines.answer_s)

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """Attach, format once and mount; counted once per answered call."""
        return await self._mounter.mount(check_name_for("mount", name), mount_id, client)

    async def unmount(self, name: str, mount_id: str) -> None:
        """Take back one mount; after the last, unmount and release now, and detach after the answer."""
        check_name_for("unmount", name)
        unmount = partial(self._unmount, name, mount_id)
        await failures.wait_for(self._node, "unmount", name, unmount, self._node.deadlines.answer_s)

    async def path(self, name: str) -> str:
        """Return where the volume is mounted, empty if it is not."""
        return (await self._described(name)).mountpoint

    async def get(self, name: str, backend: str | None = None) -> VolumeView:
        """Describe a volume: from memory if this host has it, from its backend otherwise.

        Args:
            name: Docker's name.
            backend: The backend that has to have it; None for any.

        Raises:
            VolumeNotFound: If there is certainly no such volume, or another backend has it. dockerd forgets
                it then.
            BackendNotFound: If no such backend is configured.
            VolplugError: Anything else means that it is not known; it must not be answered.
        """
        if backend is not None and backend not in self._node.backends:
            raise BackendNotFound(f"no backend {backend!r} is configured", "See GET /v1/backends")
        view = await self._described(name, with_usage=True)
        return view if backend in (None, view.backend) else await self._described_in(backend, view)

    async def _described(self, name: str, *, with_usage: bool = False) -> VolumeView:
        context = ErrorContext("get", name)
        try:
            check_name(name)
        except InvalidName as error:
            raise VolumeNotFound("no such volume").in_context(context) from error
        entry = self._node.ledger.get(name)
        if entry is not None and entry.record is not None:
            if entry.is_busy:
                sample = await self._sample(entry) if with_usage and entry.is_claimed else None
                return self._view(entry.record, entry, sample)
            if (kept := self._catalog.cached(name, entry.backend)) is not None:
                return self._view(kept, entry)
        try:
            volume = await self._look_up(name, entry, context)
        except DuplicateVolumes as error:
            return self._view_duplicates(error, name, entry)
        return self._view(volume, self._node.ledger.get(name))

    async def _described_in(self, backend: str, other: VolumeView) -> VolumeView:
        """Describe a backend's volume of a name that another backend has, too, or alone."""
        volume = await self._catalog.find(other.name, backend)
        if volume is None:
            cause = f"backend {backend} has no such volume; backend {other.backend} has one of this name"
            raise VolumeNotFound(cause).in_context(ErrorContext("get", other.name))
        return self._view(volume, None)

    async def list(self) -> Sequence[VolumeView]:
        """Describe all volumes; those of a backend that does not answer as they were last known.

        Returns:
            The same object as before if nothing has changed since.

        Raises:
            BackendUnavailable: If a backend does not answer and no volume is known, which must not appear
                as if there were none.
        """
        answers = await self._catalog.list_all()
        failed = {name: answer for name, answer in answers.items() if isinstance(answer, BaseException)}
        for backend, error in failed.items():
            _LOG.warning("backend not listed, volumes shown as last known", backend=backend, error=str(error))
        views = self._list_cache.views(answers)
        if failed and not views:
            backend, error = next(iter(failed.items()))
            raise BackendUnavailable(f"backend {backend} cannot be listed: {error}") from error
        return views

    async def plan_takeover(self, name: str) -> TakeoverPlan:
        """Tell what a Mount here would do about the node that has the volume; changes nothing.

        Raises:
            VolumeNotFound: If there is no such volume.
            VolplugError: If the backend cannot be asked.
        """
        context = ErrorContext("plan the takeover of", check_name_for("plan the takeover of", name))
        volume = await self._catalog.find(name)
        if volume is None:
            raise VolumeNotFound("no such volume").in_context(context)
        return await plan_takeover(volume, self._node.driver(volume.backend), self._node.takeover)

    # The control API: operations that run on without a deadline

    @property
    def operations(self) -> Operations:
        """Return the operations of this node, dockerd's and volplug's own included."""
        return self._node.operations

    @property
    def events(self) -> EventLog:
        """Return what happens to the volumes of this node."""
        return self._node.events

    async def start_create(self, request: CreateRequest, caller: ApiCall) -> Operation:
        """Start to provision a volume; one that exists and is the same is success.

        Like all `start_*`: returns as soon as the operation is kept durably. A request that is repeated with
        its idempotency key gets the operation that the first one started, running or ended. What fails later
        is the operation's failure; also that the volume is not the one that was `meant`, as `get` showed it.

        Raises:
            InvalidName: If it is no name of a volume.
            IdempotencyKeyReused: If another request came with the key.
            TooManyWaiting: If too many operations of the API run.
            HostError: If it cannot be kept durably; nothing was started.
        """
        work = partial(self._creator.create, request)
        return await self._start(ApiVerb.CREATE, request.name, caller, work, request_to_json(request))

    async def start_delete(self, name: str, caller: ApiCall, meant: VolumeView | None = None) -> Operation:
        """Start to delete a volume that is not in use; one that does not exist is success."""
        work = partial(self._remover.remove, name, meant=meant)
        return await self._start(ApiVerb.DELETE, name, caller, work)

    async def start_takeover(self, name: str, caller: ApiCall, meant: VolumeView | None = None) -> Operation:
        """Start to take a volume from the node that has it, as a Mount would, but without attaching it.

        One that no other node has is success: nothing is to be done.
        """
        work = partial(self._handover.take_over, name, meant=meant)
        return await self._start(ApiVerb.TAKEOVER, name, caller, work)

    async def start_release(self, name: str, caller: ApiCall, meant: VolumeView | None = None) -> Operation:
        """Start to detach a volume that lingers; one that is not attached here is success.

        Fails with VolumeInUse if it is in use here, and with VolumeNotFound if it does not exist.
        """
        work = partial(self._handover.release, name, meant=meant)
        return await self._start(ApiVerb.RELEASE, name, caller, work)

    async def _start(
        self, verb: ApiVerb, name: str, caller: ApiCall, work: Work[object], request: str = ""
    ) -> Operation:
        check_name_for(verb, name)
        kind = verb.value  # a plain string, as it is read from its row
        observed = partial(failures.observed, self._node, kind, name, work)
        return await self._durable.start(kind, name, caller, observed, request)

    async def backends(self) -> Sequence[BackendView]:
        """Describe all backends, the default one first; each is asked for its health and its volumes."""
        return await self._overview.backends()

    def node(self) -> NodeView:
        """Describe this node, from memory."""
        return self._overview.node()

    # How

    async def _unmount(self, name: str, mount_id: str, operation: Operation) -> None:
        node, lock = self._node, self._node.locks.of(name)
        entry = await self._take_back(name, mount_id)
        if entry is None:
            return
        async with lock:
            entry = node.ledger.get(name)
            if entry is None or lock.mounts_in_progress or entry.mount_count:
                if entry is not None and entry.is_unconfirmed:
                    self._releaser.schedule_trial(name, 0)
                return
            if not entry.holders_unknown:
                await self._release(entry, operation)
            elif not await self._releaser.is_released_by_trial(entry, operation):
                return
        self._releaser.schedule(name, node.linger_s(entry.backend))

    async def _take_back(self, name: str, mount_id: str) -> Entry | None:
        """Take back the count at once: dockerd never repeats an Unmount, so it must not be lost."""
        entry = self._node.ledger.get(name)
        if entry is None:
            return None
        entry = entry.without_mount(mount_id)
        if not entry.is_claimed and entry.desired is Desired.MOUNTED:
            entry = replace(entry, desired=Desired.DETACHED)
        await self._node.ledger.put(entry)
        return entry if entry.desired is not Desired.NONE or entry.is_claimed else None

    async def _release(self, entry: Entry, operation: Operation) -> None:
        request = ConvergeRequest(
            operation=operation, name=entry.name, backend=entry.backend, goal=Goal.RELEASED
        )
        try:
            await self._converger.converge(request)
        except Exception:
            self._releaser.schedule(entry.name, 1.0)
            raise
        self._usage.forget(entry.name)

    async def _look_up(self, name: str, entry: Entry | None, context: ErrorContext) -> Volume:
        try:
            volume = await self._catalog.find(name, entry.backend if entry and entry.record else None)
            if volume is None and len(self._node.backends) > 1:
                volume = await self._catalog.find(name)  # it may have moved to another backend
        except DuplicateVolumes:
            raise
        except Exception as error:  # whatever it is, what is known is better than no answer
            if entry is not None and entry.record is not None:
                _LOG.warning("look-up failed, volume shown as last known", volume=name, error=str(error))
                return entry.record
            if isinstance(error, VolplugError):
                raise error.in_context(context) from error.__cause__
            raise
        return await self._reconciled(name, volume, context)

    async def _reconciled(self, name: str, volume: Volume | None, context: ErrorContext) -> Volume:
        """Weigh a backend's answer against what this host does with the volume meanwhile; that is newer."""
        ledger = self._node.ledger
        now = ledger.get(name)
        if now is not None and now.record is not None and now.is_busy:
            return now.record
        if volume is not None:
            if now is None or now.record != volume:
                self._node.tasks.start_write(ledger.remember(volume))
            return volume
        if now is not None and now.is_claimed:
            raise BackendUnavailable("the volume is mounted here, but no backend has it").in_context(context)
        if now is not None and now.desired is Desired.NONE:
            self._node.tasks.start_write(ledger.forget(name))
        raise VolumeNotFound("no such volume").in_context(context)

    async def _sample(self, entry: Entry) -> UsageSample | None:
        node = self._node
        return await self._usage.sample(node.host(entry.backend), entry.name, node.target(entry.name))

    def _view(self, volume: Volume, entry: Entry | None, sample: UsageSample | None = None) -> VolumeView:
        mountpoint = self._node.mountpoint(volume.name, volume)
        return view_volume(volume, entry, mountpoint, self._driver_name(volume.backend), sample)

    def _view_duplicates(self, error: DuplicateVolumes, name: str, entry: Entry | None) -> VolumeView:
        backends = [entry.backend] if entry and entry.record else list(self._node.backends)
        backend = backends[0] if len(backends) == 1 else ""
        return view_duplicates(error, name, backend, self._driver_name(backend))

    def _driver_name(self, backend: str) -> str:
        driver = self._node.backends.get(backend)
        return driver.info.driver if driver else "not configured" if backend else ""


def check_name_for(operation: str, name: str) -> str:
    """Check a name; the error states the operation."""
    try:
        return check_name(name)
    except InvalidName as error:
        raise error.in_context(ErrorContext(operation)) from None
