"""One convergence of one volume: observe, decide, act, until the goal is reached or refused."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from volplug.errors import (
    BackendUnavailable,
    DeviceMismatch,
    DuplicateVolumes,
    ErrorContext,
    FilesystemMismatch,
    OperationTimeout,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.host.base import Host, MountRequest
from volplug.models import (
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    MountState,
    Volume,
    VolumeState,
    not_older,
)
from volplug.steps import OnStep, WorldStep, unannounced
from volplug.volumes.convergence import (
    PASSIVE_STEPS,
    WAITING_STEPS,
    Goal,
    Kernel,
    Observed,
    Reason,
    Record,
    Refusal,
    Standing,
    Step,
    decide,
)
from volplug.volumes.holder_watch import HolderWatch, ask_holder
from volplug.volumes.job import Job, Patience
from volplug.volumes.readings import device_of, record_of
from volplug.volumes.refusals import Facts, refusal_error

_MAX_REPEATS: Final = 3
_BUSY_PAUSES_S: Final = (0.01, 0.05, 0.1)
_KNOWN_IS_ENOUGH: Final = frozenset({Goal.MOUNTED, Goal.RELEASED, Goal.DETACHED})


class Run:
    """One convergence. The caller holds the volume's lock.

    Attributes:
        volume: The volume as known by now; None if there is none.
    """

    def __init__(
        self,
        job: Job,
        host: Host,
        patience: Patience,
        before_change: Callable[[Volume | None], Awaitable[None]],
        on_step: OnStep = unannounced,
    ) -> None:
        self._job = job
        self._host = host
        self._patience = patience
        self._before_change = before_change
        self._on_step = on_step
        self.volume = None if job.conditions.is_absent else job.known
        self._record: Record | None = Record.ABSENT if job.conditions.is_absent else None
        self._other_node = HolderWatch(job, patience)
        self._news_looks = patience.news_looks if job.driver.info.remote else 0
        self._source: MountSource | None = None
        self._is_located = False
        self._contents: Contents | None = None
        self._kernel = Kernel.UNTESTED
        self._is_remounted = False
        self._mount: MountState | None = None
        self._error: VolplugError | None = None
        self._taken: Counter[Step] = Counter()

    @property
    def is_attached_here(self) -> bool:
        """Tell whether this host has a device of the volume, as far as was looked."""
        return self._source is not None

    @property
    def record_is_absent(self) -> bool:
        """Tell whether the backend is sure that there is no such volume."""
        return self._record is Record.ABSENT

    async def to_goal(self) -> Volume | None:
        """Converge.

        Raises:
            VolplugError: Why the goal was refused or a step failed, with its context.
        """
        try:
            while (step := await self._next_step()) is not Step.DONE:
                if step not in PASSIVE_STEPS and not self._taken.keys() - PASSIVE_STEPS:
                    await self._before_change(self.volume)
                self._taken[step] += 1
                if self._taken[step] > _MAX_REPEATS and step not in PASSIVE_STEPS:
                    raise UnexpectedState(f"step {step} had no effect", "See the log of volplug")
                await self._ACTIONS[step](self)
                if step not in PASSIVE_STEPS:
                    self._on_step(WorldStep[step.name])
        except VolplugError as error:
            raise error.in_context(self._context()) from error.__cause__
        return self.volume

    def _context(self) -> ErrorContext:
        job = self._job
        volume_id = self.volume.volume_id if self.volume else ""
        return ErrorContext(job.operation, job.name, job.backend, volume_id, job.driver.node_id)

    async def _next_step(self) -> Step:
        seen = await self._observe()
        decision = decide(seen, self._job.goal)
        if isinstance(decision, Refusal):
            raise refusal_error(decision.reason, await self._facts(decision.reason))
        return decision

    async def _facts(self, reason: Reason) -> Facts:
        holders, other_node = "", self._other_node.told
        if reason is Reason.HELD_HERE:
            holders = await self._host.describe_holders(self._source, self._job.target)
        if reason is Reason.HELD_ELSEWHERE and self.volume and other_node is None:
            other_node = await ask_holder(self._job.driver, self.volume.holder or "")
        return Facts(self.volume, self._source, self._contents, holders, other_node, self._error)

    # Observing

    async def _observe(self) -> Observed:
        if self._record is None and not await self._observe_known():
            await self._observe_record()
        if not self._is_located:
            await self._locate()
        if self._mount is None:
            self._mount = await self._host.mount_state(self._job.target, self._source)
        return Observed(
            record=self._believed_record(),
            device=device_of(self._source, self.volume, self._error),
            contents=self._contents.kind if self._contents else None,
            phase=self.volume.filesystem.phase if self.volume else FilesystemPhase.PENDING,
            mount=self._mount,
            kernel=self._kernel,
            remounted=self._is_remounted,
            standing=self._standing(),
            confirmed=self._taken[Step.AWAIT_NEWS] >= self._news_looks,
        )

    def _believed_record(self) -> Record:
        """Return the record, but DETACHING as long as HERE may be a read from before a detach of ours."""
        is_read = self._record is Record.HERE and self._source and not self._taken[Step.ATTACH]
        may_leave = self._job.may_be_leaving and self._job.goal is Goal.MOUNTED
        is_stale = is_read and may_leave and self._taken[Step.AWAIT_BACKEND] < self._news_looks
        return Record.DETACHING if is_stale else self._record or Record.ABSENT

    def _standing(self) -> Standing:
        if self._record is Record.LEAVING and self._other_node.waited_s < self._patience.leaving_s:
            return Standing.AWAITED
        return self._other_node.standing(self.volume)

    async def _observe_known(self) -> bool:
        """Use what is known and attached here without asking the backend; True if that is enough.

        Only a finished format is final; any other filesystem tag may have changed since we heard of it.
        """
        known, goal = self._job.known, self._job.goal
        if known is None or goal not in _KNOWN_IS_ENOUGH or self._other_node.waited_s:
            return False
        if goal is Goal.MOUNTED and (self._job.may_be_leaving or known.state is VolumeState.ERROR):
            return False
        await self._locate()
        if goal is Goal.RELEASED and self._source is None:
            self._record = Record.AVAILABLE
            return True
        is_final = known.filesystem.phase is FilesystemPhase.FORMATTED
        if self._source is None or not is_final or self._source.size_bytes != known.size_bytes:
            return False
        self._record = Record.HERE
        return True

    async def _observe_record(self) -> None:
        before, was_wrong = self.volume, isinstance(self._error, DeviceMismatch)
        self._error = None
        try:
            found = await self._job.driver.get(self._job.name)
        except BackendUnavailable as error:
            self._record, self._error = Record.UNREACHABLE, error
        except DuplicateVolumes as error:
            self._record, self._error = Record.DUPLICATE, error
        else:
            self._set_volume(found)
        is_same = before and self.volume and before.volume_id == self.volume.volume_id
        self._is_located = self._is_located and bool(is_same) and not was_wrong

    def _set_volume(self, found: Volume | None) -> None:
        if found is None or self._job.conditions.only_id not in ("", found.volume_id):
            self._record = Record.ABSENT
            if self._job.goal in (Goal.PRESENT, Goal.MOUNTED):
                self.volume = None  # what was known of the name is over
            return
        self.volume = not_older(found, self.volume)
        self._record = record_of(found, self._job.driver.node_id)

    async def _locate(self) -> None:
        self._source = None
        if self.volume is not None:
            try:
                self._source = await self._job.driver.locate(self.volume)
            except DeviceMismatch as error:
                self._error = error
        self._is_located = True
        self._mount = None

    def _forget_readings(self) -> None:
        self._contents = None
        self._kernel = Kernel.UNTESTED

    # Acting

    def _known_volume(self) -> Volume:
        if self.volume is None:
            raise UnexpectedState("no volume to work on")
        return self.volume

    def _known_source(self) -> MountSource:
        if self._source is None:
            raise UnexpectedState("no device to work on")
        return self._source

    async def _await_backend(self) -> None:
        if (waited_s := self._other_node.waited_s) >= self._patience.backend_s:
            cause = f"the backend says {self._record} for {waited_s:.0f} s"
            raise OperationTimeout(cause, "Look at the volume at its backend")
        found = await self._other_node.wait_settled(self._known_volume())
        self._is_located = False
        self._forget_readings()
        self._record = None
        if found is not None:
            self._set_volume(found)

    async def _await_news(self) -> None:
        """Ask for the record again: a cloud may have shown the past."""
        await asyncio.sleep(self._patience.poll_s)
        self._record = None
        self._forget_readings()  # they were judged by the record

    async def _ask_holder(self) -> None:
        await self._other_node.ask(self._known_volume())

    async def _await_holder(self) -> None:
        await self._other_node.wait()
        self._record = None

    async def _fence(self) -> None:
        await self._other_node.fence(self._known_volume())

    async def _take_over(self) -> None:
        volume = self._known_volume()
        await self._other_node.take_over(volume)
        self.volume = replace(volume, state=VolumeState.AVAILABLE, holder=None)
        self._record = Record.AVAILABLE

    async def _read_contents(self) -> None:
        self._contents = await self._host.read_contents(self._known_source(), self._known_volume().filesystem)

    async def _test_release(self) -> None:
        is_held = await self._host.is_held(self._known_source(), self._job.patience_s)
        self._kernel = Kernel.HELD if is_held else Kernel.FREE

    async def _create(self) -> None:
        spec = self._job.conditions.spec or self._known_volume().spec
        self._set_volume(await self._job.driver.create(spec))
        self._is_located = False

    async def _attach(self) -> None:
        volume, driver = self._known_volume(), self._job.driver
        if self._taken.keys() & WAITING_STEPS:
            self._other_node.check_wanted()
        try:
            self._source = await driver.attach(volume)
        except VolumeInUse:
            # Another node was faster, or the record is one of the past.
            if not await self._other_node.waits_once_more():
                raise
            self._record = None
            self._taken[Step.ATTACH] -= 1
            return
        self.volume = replace(volume, state=VolumeState.IN_USE, holder=driver.node_id)
        self._record = Record.HERE
        self._forget_readings()
        self._mount = None

    async def _tag_formatting(self) -> None:
        volume = self._known_volume()
        tag = FilesystemTag(FilesystemPhase.FORMATTING, volume.spec.fs_type, str(uuid.uuid4()))
        self.volume = await self._job.driver.tag_filesystem(volume, tag)

    async def _make_filesystem(self) -> None:
        volume = self._known_volume()
        await self._host.make_filesystem(self._known_source(), volume.spec, volume.filesystem)
        self._forget_readings()
        self._contents = Contents(ContentKind.OURS, "its new filesystem")

    async def _check_filesystem(self) -> None:
        await self._host.check_filesystem(self._known_source(), self._known_volume().filesystem.fs_type)
        self._forget_readings()

    async def _mount_source(self) -> None:
        volume, target = self._known_volume(), self._job.target
        source, fs_type = self._known_source(), volume.filesystem.fs_type
        request = MountRequest(source, target, fs_type, volume.spec.mount_options)
        self._mount = None
        self._is_located = False  # before it is answered, the device is identified once more
        await self._host.mount(request)
        self._forget_readings()
        is_complete = volume.filesystem.phase is FilesystemPhase.FORMATTED
        if is_complete and not await self._host.has_data_directory(target, volume.subpath):
            await self._host.unmount(target)
            raise FilesystemMismatch(
                f"its filesystem lacks the directory {volume.subpath!r} that containers see",
                "Nothing was changed; restore it from a backup",
            )

    async def _initialise(self) -> None:
        """Finish the format: the tag is written last, so that a crash before it leads here again."""
        volume = self._known_volume()
        await self._host.make_data_directory(self._job.target, volume.subpath, volume.spec)
        planned = volume.filesystem
        tag = FilesystemTag(FilesystemPhase.FORMATTED, planned.fs_type, planned.uuid)
        self.volume = await self._job.driver.tag_filesystem(volume, tag)

    async def _unmount(self) -> None:
        try:
            await self._unmount_patiently()
        except VolumeInUse as error:
            raise refusal_error(Reason.HELD_HERE, await self._facts(Reason.HELD_HERE)) from error
        self._is_remounted = self._is_remounted or self._mount is MountState.READ_ONLY
        self._mount = None
        self._forget_readings()

    async def _unmount_patiently(self) -> None:
        """Try a busy mount again some times: whoever looks at it for a moment makes it busy, too."""
        for pause_s in _BUSY_PAUSES_S:
            with contextlib.suppress(VolumeInUse):
                return await self._host.unmount(self._job.target)
            await asyncio.sleep(pause_s)
        return await self._host.unmount(self._job.target)

    async def _detach(self) -> None:
        volume = self._known_volume()
        await self._job.driver.detach(volume)
        if self._record is Record.HERE:
            self._record = Record.AVAILABLE
            self.volume = replace(volume, state=VolumeState.AVAILABLE, holder=None)
        else:
            self._record = None
        self._source = None
        self._forget_readings()

    async def _delete(self) -> None:
        with contextlib.suppress(VolumeNotFound):  # that is what was wanted
            await self._job.driver.delete(self._known_volume())
        self.volume, self._record = None, Record.ABSENT

    _ACTIONS: Final[dict[Step, Callable[[Run], Awaitable[None]]]] = {
        Step.AWAIT_BACKEND: _await_backend,
        Step.AWAIT_NEWS: _await_news,
        Step.ASK_HOLDER: _ask_holder,
        Step.AWAIT_HOLDER: _await_holder,
        Step.FENCE: _fence,
        Step.TAKE_OVER: _take_over,
        Step.READ_CONTENTS: _read_contents,
        Step.TEST_RELEASE: _test_release,
        Step.CREATE: _create,
        Step.ATTACH: _attach,
        Step.TAG_FORMATTING: _tag_formatting,
        Step.MAKE_FILESYSTEM: _make_filesystem,
        Step.CHECK_FILESYSTEM: _check_filesystem,
        Step.MOUNT: _mount_source,
        Step.INITIALISE: _initialise,
        Step.UNMOUNT: _unmount,
        Step.DETACH: _detach,
        Step.DELETE: _delete,
    }
