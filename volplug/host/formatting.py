"""Makes filesystems on free devices, and checks them before they are mounted."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from volplug.errors import CommandFailed, FilesystemMismatch, HostError, MountFailed, VolumeInUse
from volplug.host.contents import is_expected, read_contents, read_superblock
from volplug.host.devices import device_error, is_held_now, open_size_bytes, opened
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.base import CheckResult
from volplug.host.format_mark import SECTOR_BYTES, mark_of, mark_region
from volplug.host.libc import FsContext
from volplug.host.process import run, search_path
from volplug.host.threads import DevicePool
from volplug.models import BlockDevice, ContentKind, FilesystemPhase, FilesystemTag, VolumeSpec
from volplug.steps import OnStep, WorldStep, unannounced

# Errors of a failed read or write. After others e2fsck may be able to repair what the kernel refuses.
_DISK_AT_FAULT: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})


def installed() -> tuple[str, ...]:
    """Return the filesystem types whose mkfs program is installed, sorted."""
    path = search_path()
    return tuple(fs_type for fs_type in FILESYSTEMS if shutil.which(f"mkfs.{fs_type}", path=path))


async def make_filesystem(
    pool: DevicePool, source: BlockDevice, spec: VolumeSpec, tag: FilesystemTag, on_step: OnStep = unannounced
) -> None:
    """Make the planned filesystem on a device that is blank or has remnants of the same plan.

    On one that may hold noise, data without any signature counts as blank.

    The device is judged here again, however recently the caller has done so: mkfs.ext4 overwrites without
    a question if it has no terminal.

    Args:
        pool: Threads for blocking calls.
        source: The device.
        spec: Its mkfs options are used.
        tag: Must be in the phase FORMATTING.
        on_step: Called when the mark is written, and when mkfs has ended.

    Raises:
        VolumeInUse: If the device is in use.
        FilesystemMismatch: If it holds anything that this mkfs must not destroy, or mkfs made nothing.
        CommandFailed: If mkfs fails.
    """
    filesystem = FILESYSTEMS.get(tag.fs_type)
    if tag.phase is not FilesystemPhase.FORMATTING or filesystem is None or not tag.uuid:
        raise FilesystemMismatch(f"the volume's filesystem tag {tag.to_text()!r} does not permit mkfs")
    device = source.device
    await _require_free(pool, device)
    contents = await read_contents(pool, device, tag)
    is_noise = contents.kind is ContentKind.UNCLAIMED and source.may_hold_noise
    if contents.kind not in (ContentKind.BLANK, ContentKind.PARTIAL) and not is_noise:
        raise FilesystemMismatch(f"mkfs was stopped: the device {device} holds {contents.description}")
    await pool.blocking(_mark, device, tag)
    on_step(WorldStep.FORMAT_MARKED)
    await run(pool.programs, filesystem.mkfs_argv(device, spec.mkfs_options, tag.uuid))
    on_step(WorldStep.MKFS_ENDED)
    made = await pool.blocking(read_superblock, device, tag.fs_type)
    if made is None or not made.is_finished or not is_expected(made, tag):
        raise FilesystemMismatch(
            f"mkfs.{tag.fs_type} reported success but {device} does not hold its filesystem"
        )
    await pool.blocking(_clear_mark, device, tag)


async def check_filesystem(pool: DevicePool, device: str, fs_type: str) -> None:
    """Replay the journal and repair what can be repaired without questions, if the type needs that at all.

    The check is never killed: if the awaiting task is cancelled, the check is asked to stop and waited for.

    Raises:
        VolumeInUse: If the device is in use.
        MountFailed: If the journal cannot be written to the disk.
        FilesystemMismatch: If errors remain.
        CommandFailed: If the check itself fails or is stopped.
    """
    filesystem = FILESYSTEMS[fs_type]
    if (check := filesystem.check) is None:
        return
    await _require_free(pool, device)
    found = await pool.blocking(read_superblock, device, fs_type)
    if found is not None and found.needs_replay:
        await pool.blocking(_replay_journal, device, fs_type)
    argv = (*check.argv, device)
    finished = await run(pool.programs, argv, ok=range(256), stop_signal=signal.SIGTERM)
    result = check.read_exit_code(finished.exit_code)
    if result is CheckResult.SOUND:
        return
    output = finished.stdout.strip() or finished.stderr.strip()
    if result is CheckResult.ERRORS_LEFT:
        raise FilesystemMismatch(
            f"fsck left errors on {device}: {_last_line(output).removeprefix(f'{device}: ')}",
            filesystem.how_to_repair,
        )
    raise CommandFailed(argv, finished.exit_code, _last_line(finished.stderr.strip() or output))


def _replay_journal(device: str, fs_type: str) -> None:
    """Let the kernel replay the journal, by a read-only mount that is attached to no directory.

    e2fsck would ignore a write that fails on the way to the disk (a sparse image on a full disk, a failing
    device) and empty the journal nevertheless, which loses fsynced data. The kernel keeps the journal then.
    A kernel without fsopen, or a journal that the kernel cannot read, is left to e2fsck.

    Raises:
        MountFailed: If the disk cannot be read or written; nothing is lost.
    """
    try:
        context = FsContext(fs_type)
    except OSError:
        return
    with context:
        try:
            for option in (f"source={device}", "ro"):
                context.set(option)
            context.create()
        except OSError as exc:
            if exc.errno in _DISK_AT_FAULT:
                raise MountFailed(
                    f"the journal on {device} cannot be replayed, and was kept: {exc.strerror}",
                    "Check its disk: full, or failing? The kernel's log (dmesg) has the details",
                ) from exc


async def _require_free(pool: DevicePool, device: str) -> None:
    if await pool.blocking(is_held_now, device):
        raise VolumeInUse(f"the device {device} is in use")


def _mark(device: str, tag: FilesystemTag) -> None:
    """Mark the device as being formatted, and zero the superblock if it has the planned UUID.

    Most mkfs refuse a device with a filesystem unless forced, and a force flag would also destroy filesystems
    that are not ours.
    """
    with _changing(device, os.O_EXCL) as descriptor:
        offset = mark_region(tag.fs_type, open_size_bytes(descriptor)).offset
        os.pwrite(descriptor, mark_of(tag), offset)
        filesystem = FILESYSTEMS[tag.fs_type]
        page = filesystem.superblock_page
        found = filesystem.primary_superblock(os.pread(descriptor, page.length, page.offset))
        if found is not None and found.uuid == tag.uuid.lower():
            os.pwrite(descriptor, bytes(page.length), page.offset)


def _clear_mark(device: str, tag: FilesystemTag) -> None:
    """Clear the mark. mkfs has synced what it wrote, so a filesystem without a mark is complete.

    Not by an exclusive open: before Linux 6.3, udev's scan for btrfs opened devices exclusively, too.
    """
    with _changing(device, 0) as descriptor:
        offset = mark_region(tag.fs_type, open_size_bytes(descriptor)).offset
        if os.pread(descriptor, SECTOR_BYTES, offset) == mark_of(tag):
            os.pwrite(descriptor, bytes(SECTOR_BYTES), offset)


@contextmanager
def _changing(device: str, flags: int) -> Iterator[int]:
    """Open a device for writing, and sync it at the end."""
    try:
        with opened(device, os.O_RDWR | flags) as descriptor:
            yield descriptor
            os.fsync(descriptor)
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise VolumeInUse(f"the device {device} is in use") from exc
        raise _unwritable(device, exc) from exc


def _unwritable(device: str, exc: OSError) -> HostError:
    if exc.errno in {errno.EIO, errno.ENOSPC}:
        return HostError(f"the mark of a format on {device} cannot be written: {exc.strerror}")
    return device_error(device, exc)


def _last_line(output: str) -> str:
    return output.splitlines()[-1].strip().rstrip(".") if output else "no output"
