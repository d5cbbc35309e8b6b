"""Making and checking filesystems on devices that nobody holds."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from volplug.errors import CommandFailed, FilesystemMismatch, HostError, VolumeInUse
from volplug.host.contents import is_expected, read_contents, read_superblock
from volplug.host.devices import is_held_now, open_size_bytes, opened, unusable
from volplug.host.format_mark import SECTOR_BYTES, mark_of, mark_region
from volplug.host.journals import replay
from volplug.host.process import run, search_path
from volplug.host.superblocks import PRIMARY, parse
from volplug.host.threads import DevicePool
from volplug.models import FILESYSTEMS, ContentKind, FilesystemPhase, FilesystemTag, VolumeSpec
from volplug.steps import OnStep, WorldStep, unannounced

# e2fsck(8): 1 errors corrected, 2 reboot (of a root filesystem), 4 errors left, 8 operational error,
# 16 usage, 32 cancelled, 128 library error.
_FSCK_FINE: Final = range(4)
_FSCK_ERRORS_LEFT: Final = 4
_FSCK_FAILED: Final = 8 | 16 | 128
_FSCK_CANCELLED: Final = 32


def installed() -> tuple[str, ...]:
    """Return the filesystem types whose mkfs program is installed, sorted."""
    path = search_path()
    return tuple(fs_type for fs_type in FILESYSTEMS if shutil.which(f"mkfs.{fs_type}", path=path))


async def make_filesystem(
    pool: DevicePool, device: str, spec: VolumeSpec, tag: FilesystemTag, on_step: OnStep = unannounced
) -> None:
    """Make the planned filesystem on a device that is blank or bears remnants of the same plan.

    The device is judged here once more, however lately the caller has done so: mkfs.ext4 asks nobody when it
    has no terminal.

    Args:
        pool: Threads for what blocks.
        device: Path of the device.
        spec: Its mkfs options are appended.
        tag: Must be in the phase FORMATTING.
        on_step: Told when the device bears the mark, and when mkfs has ended.

    Raises:
        VolumeInUse: If somebody holds the device.
        FilesystemMismatch: If it holds anything that this mkfs must not destroy, or mkfs made nothing.
        CommandFailed: If mkfs fails.
    """
    if tag.phase is not FilesystemPhase.FORMATTING or tag.fs_type not in FILESYSTEMS or not tag.uuid:
        raise FilesystemMismatch(f"its filesystem tag {tag.to_text()!r} does not permit mkfs")
    await _require_free(pool, device)
    contents = await read_contents(pool, device, tag)
    if contents.kind not in (ContentKind.BLANK, ContentKind.PARTIAL):
        raise FilesystemMismatch(f"mkfs was stopped: the device {device} holds {contents.description}")
    await pool.blocking(_mark, device, tag)
    on_step(WorldStep.FORMAT_MARKED)
    await run(pool.programs, mkfs_argv(device, spec.mkfs_options, tag))
    on_step(WorldStep.MKFS_ENDED)
    made = await pool.blocking(read_superblock, device, tag.fs_type)
    if made is None or not made.is_finished or not is_expected(made, tag):
        raise FilesystemMismatch(
            f"mkfs.{tag.fs_type} reported success but {device} does not hold its filesystem"
        )
    await pool.blocking(_clear_mark, device, tag)


def mkfs_argv(device: str, options: Sequence[str], tag: FilesystemTag) -> tuple[str, ...]:
    """Return the command line of mkfs: no force flag ever, no discard, the planned UUID. Pure.

    A discard would punch holes into preallocated images, and clouds bill what a trim of a new disk costs
    in time.
    """
    if tag.fs_type == "ext4":
        others, extended = _split_extended(options)
        return ("mkfs.ext4", "-q", "-U", tag.uuid, "-E", ",".join(("nodiscard", *extended)), *others, device)
    if tag.fs_type == "xfs":
        return ("mkfs.xfs", "-q", "-K", "-m", f"uuid={tag.uuid}", *options, device)
    return ("mkfs.btrfs", "-q", "-K", "-U", tag.uuid, *options, device)


async def check_filesystem(pool: DevicePool, device: str, fs_type: str) -> None:
    """Replay and repair what can be repaired without questions.

    xfs and btrfs replay their logs at mount; there is nothing to do for them. The check is never killed: if
    the awaiting task is cancelled it is asked to stop, which e2fsck does in good order, and is waited for.

    Raises:
        VolumeInUse: If somebody holds the device.
        MountFailed: If the disk does not take what the journal holds.
        FilesystemMismatch: If errors remain.
        CommandFailed: If the check itself fails or is stopped.
    """
    if fs_type != "ext4":
        return
    await _require_free(pool, device)
    found = await pool.blocking(read_superblock, device, fs_type)
    if found is not None and found.needs_replay:
        await pool.blocking(replay, device)
    argv = ("fsck.ext4", "-p", device)
    finished = await run(pool.programs, argv, ok=range(256), stop_signal=signal.SIGTERM)
    if finished.exit_code in _FSCK_FINE:
        return
    output = finished.stdout.strip() or finished.stderr.strip()
    if finished.exit_code & _FSCK_ERRORS_LEFT and not finished.exit_code & (_FSCK_FAILED | _FSCK_CANCELLED):
        raise FilesystemMismatch(
            f"fsck left errors on {device}: {_said_last(output).removeprefix(f'{device}: ')}",
            f"Run e2fsck -f {device} by hand",
        )
    raise CommandFailed(argv, finished.exit_code, _said_last(finished.stderr.strip() or output))


async def _require_free(pool: DevicePool, device: str) -> None:
    if await pool.blocking(is_held_now, device):
        raise VolumeInUse(f"the device {device} is in use")


def _split_extended(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the values of -E from the other options: mke2fs heeds only its last -E."""
    others: list[str] = []
    extended: list[str] = []
    rest = iter(options)
    for option in rest:
        if option == "-E":
            extended.append(next(rest, ""))
        else:
            others.append(option)
    return others, [part for part in extended if part]


def _mark(device: str, tag: FilesystemTag) -> None:
    """Mark the device as being formatted, and zero the superblock if it bears the planned UUID.

    mkfs.xfs and mkfs.btrfs refuse a device with a filesystem unless forced, and a force flag would also
    destroy what is not ours.
    """
    with _changing(device, os.O_EXCL) as descriptor:
        offset = mark_region(tag.fs_type, open_size_bytes(descriptor)).offset
        os.pwrite(descriptor, mark_of(tag), offset)
        primary = PRIMARY[tag.fs_type]
        found = parse(tag.fs_type, os.pread(descriptor, primary.length, primary.offset))
        if found is not None and found.uuid == tag.uuid.lower():
            os.pwrite(descriptor, bytes(primary.length), primary.offset)


def _clear_mark(device: str, tag: FilesystemTag) -> None:
    """Clear the mark. mkfs has synced what it wrote, so whatever is without a mark is whole.

    Not by an exclusive open: before Linux 6.3, that of udev's scan for btrfs was one, too.
    """
    with _changing(device, 0) as descriptor:
        offset = mark_region(tag.fs_type, open_size_bytes(descriptor)).offset
        if os.pread(descriptor, SECTOR_BYTES, offset) == mark_of(tag):
            os.pwrite(descriptor, bytes(SECTOR_BYTES), offset)


@contextmanager
def _changing(device: str, flags: int) -> Iterator[int]:
    """Open a device for writing; what was written to it is on the disk at the end."""
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
    return unusable(device, exc)


def _said_last(output: str) -> str:
    return output.splitlines()[-1].strip().rstrip(".") if output else "it said nothing"
