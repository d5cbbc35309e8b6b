"""Mounts and unmounts by system call. Every function but `judge` blocks: call it in a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from volplug.errors import MountFailed, VolplugError, VolumeInUse
from volplug.host import libc, mountinfo
from volplug.host.base import MountRequest
from volplug.host.devices import device_number
from volplug.host.filesystems import FILESYSTEMS, how_to_repair
from volplug.host.filesystems.base import DAMAGED
from volplug.host.mount_options import refused_options, split_options
from volplug.host.mountinfo import MountEntry
from volplug.models import BlockDevice, MountSource, MountState, NamedFilesystem
from volplug.steps import OnStep, WorldStep, unannounced

_UMOUNT_NOFOLLOW: Final = 8
_REMOUNT: Final = 32
_BIND: Final = 4096
# Options that filesystems show once they stopped writing after an error; emergency_ro is of newer kernels.
_STOPPED: Final = frozenset({"ro", "emergency_ro", "shutdown"})
_DEAD: Final = (errno.EIO, errno.ENOTCONN)
_MAX_LAYERS: Final = 64


def mount(request: MountRequest, on_step: OnStep = unannounced) -> None:
    """Create the bare directory and mount on it; what is staged is bound to it, with the same flags.

    The directory has mode 0000: while nothing is mounted, writes to it by processes other than root fail.

    Raises:
        MountFailed: With the kernel's reason; also if the directory holds files or a mount already.
    """
    target = resolved(request.target)
    make_bare_directory(target)
    on_step(WorldStep.BARE_DIRECTORY_MADE)
    source = request.source
    flags, data = split_options(request.fs_type, request.options)
    try:
        if isinstance(source, NamedFilesystem) and source.staging:
            # A bind inherits the flags of what is bound, so that it never lacks them.
            libc.mount("none", source.staging, "none", _REMOUNT | _BIND | flags, "")
            libc.mount(source.staging, target, "none", _BIND, "")
        else:
            libc.mount(source.name, target, request.fs_type, flags, data)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.rmdir(target)
        raise _mount_failure(request, exc, data) from exc


def unmount(target: str, on_step: OnStep = unannounced) -> None:
    """Unmount every layer and remove the bare directory; nothing mounted is success.

    Removing the directory also unmounts it in other mount namespaces that inherited the mount and do not use
    it, because the kernel detaches what is mounted on a removed directory. A directory that holds files
    stays; the next mount refuses it.

    Raises:
        VolumeInUse: If the mount is in use.
        MountFailed: If the kernel refuses for another reason.
    """
    target = resolved(target)
    for _ in range(_MAX_LAYERS):
        if not mountinfo.entries_at(mountinfo.read(), target):
            break
        try:
            libc.umount(target, _UMOUNT_NOFOLLOW)
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                raise VolumeInUse(f"the mount at {target} is busy") from exc
            raise MountFailed(f"unmounting {target} failed: {exc.strerror}") from exc
    else:
        raise MountFailed(f"unmounting {target} failed: after {_MAX_LAYERS} layers there is still one")
    on_step(WorldStep.UNMOUNTED_BEFORE_RMDIR)
    with contextlib.suppress(OSError):
        os.rmdir(target)


def mount_state(target: str, source: MountSource | None) -> MountState:
    """Return what is mounted at `target`. Reads no filesystem data, so it does not hang on a dead device."""
    target = resolved(target)
    entries = mountinfo.entries_at(mountinfo.read(), target)
    return judge(entries, identity_of(source), is_alive=not entries or _is_alive(target))


MountIdentity = int | NamedFilesystem  # the number of a device, or a filesystem by name


def identity_of(source: MountSource | None) -> MountIdentity | None:
    """Return what mounts of a source are known by; None if there is none, or its device is not there."""
    return device_number(source.device) if isinstance(source, BlockDevice) else source


def is_of(entry: MountEntry, identity: MountIdentity) -> bool:
    """Return whether an entry shows a mount of what has this identity."""
    if isinstance(identity, NamedFilesystem):
        types = (identity.fs_type, f"fuse.{identity.fs_type}")
        return entry.source == identity.name and entry.fs_type in types
    return disk_number(entry) == identity


def judge(entries: Sequence[MountEntry], identity: MountIdentity | None, *, is_alive: bool) -> MountState:
    """Judge the entries of one mountpoint against the identity of what should be mounted there.

    Args:
        entries: All layers. A mount root that is bound to itself shows each mount twice, which is fine.
        identity: None if the source is not there.
        is_alive: Whether the filesystem can still stat its root directory.
    """
    if not entries:
        return MountState.NONE
    if identity is None or not all(is_of(entry, identity) for entry in entries):
        return MountState.STALE
    if not is_alive or any(entry.options & _STOPPED for entry in entries):
        return MountState.READ_ONLY
    return MountState.OK


def disk_number(entry: MountEntry) -> int | None:
    """Return the number of the block device that is mounted, or None if it is not there."""
    return device_number(entry.source) if has_anonymous_device(entry) else entry.device


def has_anonymous_device(entry: MountEntry) -> bool:
    """Return whether the entry shows an anonymous device number instead of the block device's."""
    filesystem = FILESYSTEMS.get(entry.fs_type)
    return filesystem is not None and filesystem.has_anonymous_device


def mounts_below(root: str) -> list[str]:
    """Return the paths directly below `root` that have something mounted on them."""
    found = mountinfo.directly_below(mountinfo.read(), os.path.realpath(root))
    return [os.path.join(root, os.path.basename(path)) for path in found]


def top_entry(target: str) -> MountEntry | None:
    """Return the entry of what is mounted at `target`, the topmost layer."""
    entries = mountinfo.entries_at(mountinfo.read(), resolved(target))
    return entries[-1] if entries else None


def resolved(target: str) -> str:
    """Resolve links above the target, as the kernel does in mountinfo; never the target itself."""
    parent, name = os.path.split(target)
    return os.path.join(os.path.realpath(parent), name)


def _is_alive(target: str) -> bool:
    # A filesystem that has shut down may not show it in mountinfo, but fails with EIO; one of FUSE whose
    # daemon has ended, with ENOTCONN. The root inode is in memory, so stat does not read the device.
    try:
        os.stat(target)
    except OSError as exc:
        return exc.errno not in _DEAD
    return True


def make_bare_directory(target: str) -> None:
    """Make the directory to mount on, with mode 0000; one that is there already has to be empty.

    Raises:
        MountFailed: If it holds files or a mount, or cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(target, 0)
            return
        if mountinfo.entries_at(mountinfo.read(), target):
            raise MountFailed(f"something is mounted at {target} already")
        if not stat.S_ISDIR(os.lstat(target).st_mode):
            raise MountFailed(f"{target} is not a directory", f"Move {target} away")
        if os.listdir(target):
            raise MountFailed(
                f"the directory {target} holds files that a mount would hide",
                f"Move what is in {target} away",
            )
        os.chmod(target, 0)
    except OSError as exc:
        raise MountFailed(f"the directory {target} cannot be made: {exc.strerror}") from exc


def how_to_permit(source: NamedFilesystem, exc: OSError) -> str:
    """Return the remedy for a filesystem that the kernel denies: an export unloads keys. Pure."""
    return f"Load its key: zfs load-key {source.name}" if exc.errno == errno.EACCES else ""


def _mount_failure(request: MountRequest, exc: OSError, data: str) -> VolplugError:
    attempt = f"mounting {request.source.name} as {request.fs_type} failed"
    cause = f"{attempt}: {exc.strerror}"
    if exc.errno == errno.EBUSY and isinstance(request.source, NamedFilesystem):
        return VolumeInUse(f"{attempt}: it is mounted in another way elsewhere", "Unmount it there")
    if exc.errno == errno.EACCES and isinstance(request.source, NamedFilesystem):
        return MountFailed(cause, how_to_permit(request.source, exc))
    if exc.errno == errno.ENODEV:
        return MountFailed(cause, f"Load the kernel module {request.fs_type}")
    if exc.errno == errno.EINVAL and (refusals := refused_options(request.fs_type, data)):
        return MountFailed(f"{cause}: {', '.join(refusals)}", "Correct the mount options")
    if exc.errno in DAMAGED:
        remedy = how_to_repair(request.fs_type)
        return MountFailed(f"the volume's filesystem is damaged: {attempt} ({exc.strerror})", remedy)
    if exc.errno == errno.EINVAL:
        return MountFailed(cause, "The kernel's log (dmesg) has the details")
    return MountFailed(cause)
