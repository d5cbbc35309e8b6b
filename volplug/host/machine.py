"""The real machine: `volplug.host.base.Host` on the kernel of this host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from volplug.errors import DeviceNotFound, UnexpectedState
from volplug.host import contents, devices, directories, formatting, holders, mounts, named, usage
from volplug.host.base import HostReading, Locate, MountRequest
from volplug.host.threads import DevicePool
from volplug.models import BlockDevice, Contents, FilesystemTag, MountSource, MountState, Usage, VolumeSpec
from volplug.steps import OnStep, WorldStep, unannounced


class Machine:
    """This machine for one backend: each call runs one function of a sibling module in a thread.

    Args:
        mount_root: Nothing is mounted, unmounted or opened at a target that is not directly below it.
        pool: Threads for work on the devices of the backend.
        on_step: Called after each step that changes the host.
    """

    def __init__(self, mount_root: str, pool: DevicePool, on_step: OnStep = unannounced) -> None:
        self._mount_root = mount_root
        self._pool = pool
        self._on_step = on_step

    async def filesystems(self) -> Sequence[str]:
        """See `Host`."""
        return await self._pool.blocking(formatting.installed)

    async def inspect(
        self, target: str, locate: Locate, *, tag: FilesystemTag | None = None, test_release: bool = False
    ) -> HostReading:
        """See `Host`."""
        return await self._pool.blocking(_read, target, locate, tag, test_release)

    async def mount_state(self, target: str, source: MountSource | None) -> MountState:
        """See `Host`."""
        return await self._pool.blocking(mounts.mount_state, target, source)

    async def mounts_below(self, root: str) -> Sequence[str]:
        """See `Host`."""
        return await self._pool.blocking(mounts.mounts_below, root)

    async def read_contents(self, source: MountSource, tag: FilesystemTag) -> Contents:
        """See `Host`."""
        if isinstance(source, BlockDevice):
            return await contents.read_contents(self._pool, source.device, tag)
        return named.contents_of(source, tag)

    async def is_held(self, source: MountSource, patience_s: float) -> bool:
        """See `Host`; a device that is not there raises DeviceNotFound."""
        if isinstance(source, BlockDevice):
            return await devices.is_held(self._pool, source.device, patience_s)
        return await named.is_held(self._pool, source, patience_s)

    async def describe_holders(self, source: MountSource | None, target: str) -> str:
        """See `Host`."""
        return await self._pool.blocking(holders.describe, source, target)

    async def make_filesystem(self, source: MountSource, spec: VolumeSpec, tag: FilesystemTag) -> None:
        """See `Host`; contents that are neither blank nor remnants of the plan raise FilesystemMismatch."""
        await formatting.make_filesystem(self._pool, _device(source), spec, tag, self._on_step)

    async def check_filesystem(self, source: MountSource, fs_type: str) -> None:
        """See `Host`."""
        await formatting.check_filesystem(self._pool, _device(source).device, fs_type)

    async def mount(self, request: MountRequest, locate: Locate) -> HostReading:
        """See `Host`."""
        self._check_target(request.target)
        async with named.staged(self._pool, request.source, self._on_step):
            return await self._pool.blocking(self._mount, request, locate)

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        """See `Host`."""
        self._check_target(target)
        return await self._pool.blocking(self._unmount, target, source)

    async def make_data_directory(self, target: str, subpath: str, spec: VolumeSpec) -> None:
        """See `Host`."""
        self._check_target(target)
        await self._pool.blocking(directories.make_data_directory, target, subpath, spec)
        self._on_step(WorldStep.DATA_DIRECTORY_MADE)

    async def usage(self, target: str, last: Usage | None) -> Usage:
        """See `Host`."""
        self._check_target(target)
        return await self._pool.blocking(usage.read_usage, target, last)

    # In threads

    def _mount(self, request: MountRequest, locate: Locate) -> HostReading:
        target, directory = request.target, request.data_directory
        mounts.mount(request, self._on_step)
        is_lacking = bool(directory) and not directories.has_data_directory(
            target, directory, request.fs_type
        )
        return replace(_read(target, locate, None, test_release=False), lacks_data_directory=is_lacking)

    def _unmount(self, target: str, source: MountSource | None) -> bool:
        mounts.unmount(target, self._on_step)
        return source is not None and _is_free_now(source)

    def _check_target(self, target: str) -> None:
        """Refuse a target outside the mount root: names and paths come from outside.

        Raises:
            UnexpectedState: If the target is not directly below the mount root.
        """
        parent, name = os.path.split(target)
        if parent != self._mount_root or name in ("", ".", ".."):
            raise UnexpectedState(f"{target} is not directly below {self._mount_root}")


def _read(target: str, locate: Locate, tag: FilesystemTag | None, test_release: bool) -> HostReading:
    source = locate()
    mount = mounts.mount_state(target, source)
    if source is None or mount is not MountState.NONE:
        return HostReading(source, mount)
    judged = _judge(source, tag) if tag else None
    return HostReading(source, mount, judged, is_free=test_release and _is_free_now(source))


def _judge(source: MountSource, tag: FilesystemTag) -> Contents | None:
    if isinstance(source, BlockDevice):
        return contents.judge_superblock(source.device, tag)
    return named.contents_of(source, tag)


def _is_free_now(source: MountSource) -> bool:
    """Make the release test once; False also where only programs can make it (`Machine.is_held`)."""
    if isinstance(source, BlockDevice):
        return not devices.is_held_now(source.device)
    with suppress(DeviceNotFound):  # `Machine.is_held` says so
        return not source.staging and not named.is_held_now(source)
    return False


def _device(source: MountSource) -> BlockDevice:
    """Return the source, if it is a device.

    Raises:
        UnexpectedState: If it is a filesystem already, which is never formatted or checked.
    """
    if not isinstance(source, BlockDevice):
        raise UnexpectedState(f"{source.name} is a filesystem, and not a device that could hold one")
    return source
