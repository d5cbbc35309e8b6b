"""Acting: what each step of a convergence does, and which readings it makes void."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from volplug.errors import (
    DeviceNotFound,
    FilesystemMismatch,
    OperationTimeout,
    UnexpectedState,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.host.base import MountRequest
from volplug.models import (
    BlockDevice,
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    NamedFilesystem,
    Volume,
)
from volplug.volumes.capacity import describe_difference
from volplug.volumes.converge_request import ConvergeContext, ConvergeRequest
from volplug.volumes.decision import WAITING_STEPS, Goal, Reason, Step
from volplug.volumes.observe import Observer
from volplug.volumes.refusals import refusal_error
from volplug.volumes.takeover import HolderWatch

_LOG = structlog.get_logger(__name__)
# A process that reads the mount for a moment, such as a scan of /proc, makes it busy, too.
_BUSY_RETRIES_S: Final = (0.01, 0.05, 0.1)


class Actions:
    """The steps of one convergence."""

    def __init__(
        self, request: ConvergeRequest, context: ConvergeContext, observer: Observer, holder: HolderWatch
    ) -> None:
        self._request = request
        self._driver = context.driver
        self._host = context.host
        self._target = context.target
        self._timeouts = context.timeouts
        self._observer = observer
        self._holder = holder
        self._has_waited = False

    async def perform(self, step: Step) -> bool:
        """Take one step.

        Returns:
            Whether it had its effect: False for an attach that another node was faster with.

        Raises:
            VolplugError: If it failed.
        """
        if step is Step.ATTACH:
            return await self._attach()
        self._has_waited = self._has_waited or step in WAITING_STEPS
        await self._STEPS[step](self)
        return True

    def _volume(self) -> Volume:
        if self._observer.volume is None:
            raise UnexpectedState("there is no volume to work on")
        return self._observer.volume

    def _source(self) -> MountSource:
        if self._observer.source is None:
            raise UnexpectedState("there is no device to work on")
        return self._observer.source

    # Waiting

    async def _await_backend(self) -> None:
        if (waited_s := self._holder.waited_s) >= self._timeouts.backend_s:
            cause = f"the backend reports {self._volume().state} for {waited_s:.0f} s"
            raise OperationTimeout(cause, "Check the volume at its backend")
        self._observer.transition_awaited(await self._holder.wait_settled(self._volume()))

    async def _recheck_record(self) -> None:
        await asyncio.sleep(self._timeouts.poll_s)
        self._observer.recheck_record()

    # Other nodes

    async def _ask_holder(self) -> None:
        await self._holder.ask(self._volume())

    async def _await_holder(self) -> None:
        await self._holder.wait()
        self._observer.void_record()

    async def _fence(self) -> None:
        await self._holder.fence(self._volume())

    async def _take_over(self) -> None:
        await self._holder.take_over(self._volume())
        self._observer.taken_over()

    # The volume

    async def _create(self) -> None:
        spec = self._request.spec or self._volume().spec
        self._observer.created(await self._driver.create(spec))

    async def _attach(self) -> bool:
        if self._has_waited:  # else it is attached for a client that has left, too: its retry finds it so
            self._holder.check_wanted()
        try:
            source = await self._driver.attach(self._volume())
        except VolumeInUse:
            # Another node was faster, or the record is a stale read.
            if not await self._holder.wait_if_time_is_left():
                raise
            self._observer.void_record()
            return False
        self._observer.attached(source)
        return True

    async def _detach(self) -> None:
        await self._driver.detach(self._volume())
        self._observer.detached()

    async def _delete(self) -> None:
        with contextlib.suppress(VolumeNotFound):  # that is what was wanted
            await self._driver.delete(self._volume())
        self._observer.deleted()

    # The filesystem

    async def _read_contents(self) -> None:
        tag = self._volume().filesystem
        self._observer.contents_read(await self._host.read_contents(self._source(), tag))

    async def _test_release(self) -> None:
        timeout_s = self._request.release_timeout_s
        if timeout_s is None:
            is_mount = self._request.goal is Goal.MOUNTED
            timeout_s = self._timeouts.quick_release_s if is_mount else self._timeouts.release_s
        source = self._source()
        try:
            self._observer.release_tested(is_held=await self._host.is_held(source, timeout_s))
        except DeviceNotFound:
            # A filesystem may be renamed or destroyed by hand while it is attached. Once the backend is sure
            # that there is no such volume, nothing is left of it here but the attachment.
            if isinstance(source, NamedFilesystem) and self._observer.is_absent:
                self._observer.release_tested(is_held=False)
            elif isinstance(source, NamedFilesystem) and not self._observer.is_rechecked:
                self._observer.recheck_record()
            else:
                raise

    async def _tag_formatting(self) -> None:
        fs_type = self._volume().spec.fs_type
        await self._tag(FilesystemTag(FilesystemPhase.FORMATTING, fs_type, str(uuid.uuid4())))

    async def _make_filesystem(self) -> None:
        volume = self._volume()
        await self._host.make_filesystem(self._source(), volume.spec, volume.filesystem)
        self._observer.void_contents()
        self._observer.contents_read(Contents(ContentKind.OURS, "its new filesystem"))

    async def _check_filesystem(self) -> None:
        await self._host.check_filesystem(self._source(), self._volume().filesystem.fs_type)
        self._observer.void_contents()

    async def _mount(self) -> None:
        volume = self._volume()
        request = MountRequest(
            self._source(),
            self._target,
            volume.filesystem.fs_type,
            volume.spec.mount_options,
            volume.subpath if volume.filesystem.phase is FilesystemPhase.FORMATTED else "",
        )
        self._warn_of_sizes(volume)
        # Before a mount is answered, the device is identified once more.
        reading = await self._host.mount(request, partial(self._driver.locate, volume))
        self._observer.void_contents()
        self._observer.inspected(reading)
        if reading.lacks_data_directory:
            await self._host.unmount(self._target)
            raise FilesystemMismatch(
                f"the filesystem lacks the directory {volume.subpath!r} that containers see",
                "Nothing was changed; restore it from a backup",
            )

    def _warn_of_sizes(self, volume: Volume) -> None:
        source, contents = self._source(), self._observer.contents
        if not isinstance(source, BlockDevice):
            return
        filesystem_bytes = contents.filesystem_bytes if contents else None
        difference = describe_difference(volume.size_bytes, source.size_bytes, filesystem_bytes)
        if difference:
            _LOG.warning(
                "sizes of a volume differ",
                volume=volume.name,
                volume_id=volume.volume_id,
                operation=self._request.operation,
                difference=difference,
                see="docs/inspect.md",
            )

    async def _finish_format(self) -> None:
        """Make the data directory, then write the tag: a crash between the two leads here again."""
        volume = self._volume()
        await self._host.make_data_directory(self._target, volume.subpath, volume.spec)
        planned = volume.filesystem
        await self._tag(FilesystemTag(FilesystemPhase.FORMATTED, planned.fs_type, planned.uuid))

    async def _tag(self, tag: FilesystemTag) -> None:
        self._observer.volume = await self._driver.tag_filesystem(self._volume(), tag)

    async def _unmount(self) -> None:
        try:
            is_free = await self._retry_busy_unmount()
        except VolumeInUse as error:
            facts = await self._observer.facts(Reason.HELD_HERE)
            raise refusal_error(Reason.HELD_HERE, facts) from error
        self._observer.unmounted(is_free=is_free)

    async def _retry_busy_unmount(self) -> bool:
        source = self._observer.source
        for pause_s in _BUSY_RETRIES_S:
            with contextlib.suppress(VolumeInUse):
                return await self._host.unmount(self._target, source)
            await asyncio.sleep(pause_s)
        return await self._host.unmount(self._target, source)

    _STEPS: Final[dict[Step, Callable[[Actions], Awaitable[None]]]] = {
        Step.AWAIT_BACKEND: _await_backend,
        Step.RECHECK_RECORD: _recheck_record,
        Step.ASK_HOLDER: _ask_holder,
        Step.AWAIT_HOLDER: _await_holder,
        Step.FENCE: _fence,
        Step.TAKE_OVER: _take_over,
        Step.READ_CONTENTS: _read_contents,
        Step.TEST_RELEASE: _test_release,
        Step.CREATE: _create,
        Step.TAG_FORMATTING: _tag_formatting,
        Step.MAKE_FILESYSTEM: _make_filesystem,
        Step.CHECK_FILESYSTEM: _check_filesystem,
        Step.MOUNT: _mount,
        Step.FINISH_FORMAT: _finish_format,
        Step.UNMOUNT: _unmount,
        Step.DETACH: _detach,
        Step.DELETE: _delete,
    }
