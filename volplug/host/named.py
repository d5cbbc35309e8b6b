"""Filesystems without a device of their own: what they hold, and whether they are in use.

ZFS in the kernel mounts a dataset by its name. A second mount of it shares the filesystem of the first,
unless one of both is read-only: then it fails with EBUSY, in whatever mount namespace the first one is. So
the release test is a read-only mount and a read-write one. Neither is attached to a directory, so that a
crash leaves nothing of them.

Where only the tools of ZFS can mount it (zfs-fuse), the mount appears at a directory that they know, the
staging directory, and is bound from there. A second mount is refused altogether, which is the test there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from volplug.errors import CommandFailed, DeviceNotFound, HostError, MountFailed, VolumeInUse
from volplug.host import mountinfo, mounts
from volplug.host.devices import still_held
from volplug.host.libc import FsContext
from volplug.host.process import run
from volplug.host.threads import DevicePool, run_to_completion
from volplug.models import (
    BlockDevice,
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    MountSource,
    NamedFilesystem,
)
from volplug.steps import OnStep, WorldStep, unannounced

_ZFS: Final = "zfs"
# What zfs-fuse prints for EBUSY, and if it is mounted in its own mount namespace.
_IN_USE: Final = ("dataset is busy", "already mounted")
_NO_DAEMON: Final = ("zfs-fuse daemon is running", "Connection reset by peer")
# Its daemon hears of the end of a mount only some time after the unmount has returned.
_DAEMON_LAGS_S: Final = 2.0


def contents_of(source: NamedFilesystem, tag: FilesystemTag) -> Contents:
    """Judge a filesystem against the tag of its volume: it was made with the volume, and is its own. Pure."""
    found = f"the {source.fs_type} filesystem {source.name}"
    is_expected = tag.phase is FilesystemPhase.PENDING or tag.fs_type == source.fs_type
    return Contents(ContentKind.OURS if is_expected else ContentKind.FOREIGN, found)


async def is_held(pool: DevicePool, source: NamedFilesystem, patience_s: float) -> bool:
    """Return whether it is in use, retrying with backoff for at most `patience_s` until it is free.

    Raises:
        DeviceNotFound: If it is not there, which proves nothing about its use.
        HostError: If it cannot be told.
    """
    if source.staging:
        return await still_held(lambda: _is_refused_by_tools(pool, source), patience_s)
    return await still_held(lambda: pool.blocking(is_held_now, source), patience_s)


def is_held_now(source: NamedFilesystem) -> bool:
    """Return whether it is mounted in any mount namespace. Blocks; errors are those of `is_held`."""
    return _is_refused(source, "ro") or _is_refused(source, "rw")


def _is_refused(source: NamedFilesystem, access: str) -> bool:
    try:
        context = FsContext(source.fs_type)
    except OSError as exc:
        raise HostError(
            f"it cannot be proven that {source.name} is not in use: {exc.strerror}",
            f"That takes Linux 5.2 or newer and its module {source.fs_type}",
        ) from exc
    with context:
        try:
            for option in (f"source={source.name}", access):
                context.set(option)
            context.create()
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                return True
            if exc.errno == errno.ENOENT:
                raise _not_there(source) from exc
            remedy = mounts.how_to_permit(source, exc)
            raise HostError(f"the filesystem {source.name} cannot be used: {exc.strerror}", remedy) from exc
        return False


def _not_there(source: NamedFilesystem) -> DeviceNotFound:
    return DeviceNotFound(
        f"the filesystem {source.name} is not there",
        f"Import its pool; or see what became of it: zfs list {source.name}",
    )


# By the tools of ZFS


@asynccontextmanager
async def staged(pool: DevicePool, source: MountSource, on_step: OnStep = unannounced) -> AsyncIterator[None]:
    """Have a filesystem mounted at its staging directory for the duration of a block, if it has one.

    Either way it is still the volume's when the block begins.

    Args:
        pool: Threads for blocking calls.
        source: The filesystem.
        on_step: Called when it is mounted there.

    Raises:
        DeviceNotFound: If it is gone, or another has its name.
        VolumeInUse: If it is mounted elsewhere.
        MountFailed: If it cannot be mounted, or this process does not see the mount.
    """
    if isinstance(source, BlockDevice):
        yield
        return
    if not source.staging:
        await _check_identity(pool, source)
        yield
        return
    if await still_held(lambda: _is_refused_by_tools(pool, source, keep=True), _DAEMON_LAGS_S):
        raise VolumeInUse(f"{source.name} is in use, and zfs-fuse mounts nothing twice", "Stop what uses it")
    on_step(WorldStep.DATASET_STAGED)
    try:
        yield
    finally:
        await pool.to_the_end(mounts.unmount, source.staging)


async def _is_refused_by_tools(pool: DevicePool, source: NamedFilesystem, *, keep: bool = False) -> bool:
    """Mount it at its staging directory; return whether that was refused because it is in use.

    Args:
        pool: Threads for blocking calls.
        source: The filesystem.
        keep: Whether to leave it mounted there.
    """
    return await run_to_completion(_try_to_stage(pool, source, keep=keep))


async def _try_to_stage(pool: DevicePool, source: NamedFilesystem, *, keep: bool) -> bool:
    await _check_identity(pool, source)
    await pool.blocking(mounts.unmount, source.staging)  # left by a process that was killed
    await pool.blocking(mounts.make_bare_directory, source.staging)
    try:
        await run(pool.programs, ("zfs", "mount", source.name))
    except CommandFailed as error:
        await pool.blocking(mounts.unmount, source.staging)
        if any(text in error.output for text in _IN_USE):
            return True
        raise _mount_error(source, error) from error
    is_seen = await pool.blocking(_is_staged, source)
    if not is_seen or not keep:
        await pool.blocking(mounts.unmount, source.staging)
    if not is_seen:
        raise MountFailed(
            f"zfs has mounted {source.name}, but not at {source.staging} of this process",
            "Run volplug in the mount namespace of zfs-fuse",
        )
    return False


def _mount_error(source: NamedFilesystem, error: CommandFailed) -> HostError:
    """Return the error to raise for a mount that the tools of ZFS refuse for another reason than its use."""
    if "does not exist" in error.output:
        return _not_there(source)
    if any(text in error.output for text in _NO_DAEMON):
        return HostError("ZFS is not running on this host", "Start the daemon of zfs-fuse")
    return MountFailed(f"zfs does not mount {source.name}: {' '.join(error.output.split())}")


async def _check_identity(pool: DevicePool, source: NamedFilesystem) -> None:
    """Check that a dataset is still the volume's: by hand, another may have been given its name.

    Raises:
        DeviceNotFound: If it is not; which proves nothing about its use.
    """
    if source.fs_type != _ZFS:
        return
    try:
        found = await run(pool.programs, ("zfs", "get", "-H", "-p", "-o", "value", "guid", source.name))
    except CommandFailed as error:
        raise _mount_error(source, error) from error
    if found.stdout.strip() != source.serial:
        raise DeviceNotFound(f"{source.name} is another dataset now than {source.serial}")


def _is_staged(source: NamedFilesystem) -> bool:
    """Tell whether it is mounted at its staging directory, once it answers there. Blocks."""
    top = mountinfo.entries_at(mountinfo.read(), mounts.resolved(source.staging))[-1:]
    is_staged = any(mounts.is_of(entry, source) for entry in top)
    if is_staged:
        try:
            # zfs-fuse gets stuck, or aborts, if a mount ends before it has begun to serve it.
            os.statvfs(source.staging)
        except OSError as exc:
            raise HostError(f"{source.name} is mounted but does not answer: {exc.strerror}") from exc
    return is_staged
