"""Checks of the state directory: the right one, closed to others, on a disk with space, its file readable."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from volplug.doctor.examination import Examination
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import HostError, StateUnusable, VolplugError
from volplug.findings import Finding, Fix, Level
from volplug.host import libc
from volplug.host.devices import opened
from volplug.host.directory_id import check_directory_id
from volplug.sizes import MIB, rounded_size
from volplug.state_dir import lock_state_dir
from volplug.store.sqlite import Loaded, read_unchanged

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
STATE_FILE: Final = "state.sqlite"
_DIRECTORY: Final = "state-directory"
_STATE_ID: Final = "state-id"
_LOCK_FILE: Final = "lock"
# linux/magic.h, and the kernel's filesystems: neither locks nor SQLite's log are safe on them.
_ON_NETWORK: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
}
_TMPFS: Final = 0x01021994
_LITTLE_BYTES: Final = 256 * MIB
_TOO_LITTLE_BYTES: Final = 16 * MIB  # the state file, its log and a few records
_LITTLE_INODES: Final = 1000


def load(state_dir: Path) -> Loaded | None:
    """Read the state file without any change; None before the first start. Blocks.

    Raises:
        StateUnusable: If it cannot be read.
    """
    path = state_dir / STATE_FILE
    if not path.exists():
        return None
    return read_unchanged(path, BOOT_ID.read_text(encoding="ascii").strip())


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Keep volplug from starting while something is mended, for a moment. Blocks.

    Raises:
        AlreadyRunning: If it runs.
    """
    descriptor = lock_state_dir(state_dir)
    try:
        yield
    finally:
        os.close(descriptor)


# The directory


async def check_state_directory(examination: Examination) -> Sequence[Finding]:
    """Check mode, owner, identity, filesystem and lock of the state directory."""
    place = f"the disk of {examination.settings.state_dir}"
    return await examination.quickly(place, _read_directory, examination)


def _read_directory(examination: Examination) -> Sequence[Finding]:
    settings = examination.settings
    directory = settings.state_dir
    found = partial(Finding, _DIRECTORY, subject=str(directory))
    try:
        status = directory.stat()
    except FileNotFoundError:
        return [
            found(level=Level.YELLOW, message="does not exist yet", remedy="Start volplug, which makes it")
        ]
    except OSError as error:
        return [found(level=Level.RED, message=f"cannot be read: {error.strerror}", remedy="Check its disk")]
    findings = [
        *_doubts_of_access(directory, status, examination),
        *_doubts_of_identity(directory, settings.resolved_state_marker),
        *doubts_of_filesystem(directory, libc.filesystem_magic(str(directory))),
    ]
    user = _user_of_lock(directory)
    used = f", in use by process {user}" if user else ", not in use"
    return findings or [found(level=Level.GREEN, message=f"is closed to other users{used}")]


def _doubts_of_access(directory: Path, status: os.stat_result, examination: Examination) -> Iterator[Finding]:
    found = partial(Finding, _DIRECTORY, Level.RED, str(directory))
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != 0:
        yield found(
            f"belongs to user {status.st_uid}, volplug refuses it", f"chown root {directory}, as root"
        )
    elif mode & 0o077:
        is_ours = (directory / _STATE_ID).exists() and not mode & 0o022
        fix = Fix(
            f"Close {directory} to other users (chmod 0700)?",
            partial(examination.blocking, _close, directory, (status.st_dev, status.st_ino)),
        )
        yield found(
            f"is open to other users (mode {mode:04o}), who can reach setuid programs of containers",
            f"chmod 0700 {directory}",
            fix if is_ours else None,
        )


def _close(directory: Path, expected: tuple[int, int]) -> str:
    """Close the directory if it is still the one that was found, volplug's, and writable by root alone."""
    with opened(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) as place:
        status = os.fstat(place)
        is_same = (status.st_dev, status.st_ino) == expected and status.st_uid == os.geteuid()
        if not is_same or status.st_mode & 0o022:
            raise HostError(f"{directory} is no longer as it was found", "Run doctor again")
        os.fchmod(place, stat.S_IMODE(status.st_mode) & 0o700)
    return f"closed {directory} to other users"


def _doubts_of_identity(directory: Path, marker: Path | None) -> Iterator[Finding]:
    try:
        check_directory_id(directory / _STATE_ID, marker, "state directory")
    except StateUnusable as error:
        yield Finding(_DIRECTORY, Level.RED, str(directory), error.cause, error.remedy)


def doubts_of_filesystem(directory: Path, magic: int) -> Iterator[Finding]:
    """Doubt the filesystem of the directory, by its number in linux/magic.h. Pure."""
    found = partial(Finding, _DIRECTORY, subject=str(directory))
    move = "Move it to a disk of this host, see docs/operations.md, Move the state to a data disk"
    if magic in _ON_NETWORK:
        message = f"lies on {_ON_NETWORK[magic]}, on which neither locks nor the state file are safe"
        yield found(level=Level.RED, message=message, remedy=move)
    elif magic == _TMPFS:
        message = "lies in memory (tmpfs): the next boot loses it, with the loop volumes in it"
        yield found(level=Level.YELLOW, message=message, remedy=move)


def _user_of_lock(directory: Path) -> str:
    """Return the pid of the volplug that has locked the directory; "" if none in sight has.

    A try to lock it could keep volplug from starting at that moment.
    """
    try:
        inode = (directory / _LOCK_FILE).stat().st_ino
    except OSError:
        return ""
    # 3: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF, see proc_locks(5)
    line = rf"^\d+: FLOCK +ADVISORY +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:{inode} "
    locks = Path("/proc/locks").read_text(encoding="ascii")
    found = re.search(line, locks, re.MULTILINE)
    return found[1] if found else ""


# Its file


async def check_state_file(examination: Examination) -> Sequence[Finding]:
    """Check that the state file can be read, and that nothing in it is damaged."""
    directory = examination.settings.state_dir
    return await examination.quickly(f"the disk of {directory}", _read_file, directory)


def _read_file(directory: Path) -> Sequence[Finding]:
    path = directory / STATE_FILE
    found = partial(Finding, "state-file", subject=str(path))
    findings = [
        Finding(
            "state-file",
            Level.YELLOW,
            str(kept),
            "was damaged and set aside: counts of Mounts were lost, no volume",
            f"Check the disk, then remove it: rm {kept}",
        )
        for kept in sorted(directory.glob(f"{STATE_FILE}.damaged-*"))
        if not kept.name.endswith(("-wal", "-shm"))
    ]
    try:
        loaded = load(directory)
    except VolplugError as error:
        remedy = error.remedy or "Check its disk; a damaged file is set aside at the next start of volplug"
        return [*findings, found(level=Level.RED, message=error.cause, remedy=remedy)]
    if loaded is None:
        return [*findings, found(level=Level.GREEN, message="does not exist yet")]
    if loaded.dropped:
        message = f"{loaded.dropped} rows are damaged, the next start of volplug drops them"
        return [*findings, found(level=Level.YELLOW, message=message, remedy="Check its disk")]
    volumes = f"{len(loaded.entries)} volume{'s' if len(loaded.entries) != 1 else ''}"
    return [*findings, found(level=Level.GREEN, message=f"can be read, {volumes} in it")]


# Its disk, and those of loop volumes


async def check_space(examination: Examination) -> Sequence[Finding]:
    """Check the space for state and loop images."""
    places = [examination.settings.state_dir]
    places += [each.directory for each in examination.drivers.values() if isinstance(each, LoopDriver)]
    findings: list[Finding] = []
    for place in dict.fromkeys(places):
        findings += await examination.quickly(f"the disk of {place}", _read_space, place)
    return findings


def _read_space(place: Path) -> Sequence[Finding]:
    there = next(each for each in (place, *place.parents) if each.exists())
    return [judge_space(str(place), os.statvfs(there))]


def judge_space(place: str, disk: os.statvfs_result) -> Finding:
    """Judge the free space and inodes of a disk. Pure."""
    found = partial(Finding, "space", subject=place)
    free_bytes = disk.f_bavail * disk.f_frsize
    few_inodes = disk.f_files > 0 and disk.f_favail < _LITTLE_INODES
    if disk.f_flag & os.ST_RDONLY:
        return found(
            level=Level.RED,
            message="its filesystem is read-only, perhaps after an error of the disk",
            remedy="Look into the kernel's log (dmesg), repair it, and mount it again",
        )
    free = f"{rounded_size(free_bytes)} free"
    if free_bytes < _LITTLE_BYTES or few_inodes:
        left = f"only {disk.f_favail} inodes are free" if few_inodes else f"only {free}"
        level = Level.RED if free_bytes < _TOO_LITTLE_BYTES or not disk.f_favail else Level.YELLOW
        return found(level=level, message=left, remedy=f"Make room on the disk of {place}, or enlarge it")
    return found(level=Level.GREEN, message=free)
