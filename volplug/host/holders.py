"""Finds the users of a device or a mount, for error texts only: slow and best effort.

A process in a container sees neither the processes of other containers nor their mounts. If it finds no user
of a device in use, it names "another mount namespace".
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from volplug.host import libc, mountinfo
from volplug.host.devices import device_number
from volplug.host.mountinfo import MountEntry
from volplug.host.mounts import MountIdentity, disk_number, has_anonymous_device, identity_of, is_of
from volplug.models import MountSource, NamedFilesystem

UNSEEN_HOLDER: Final = "another mount namespace (often a container that binds /)"
_SHOWN: Final = 3
_DEADLINE_S: Final = 1.0

# Docker names a container in the paths of its /etc/hosts (mountinfo) and in its cgroup, Podman in its cgroup.
_CONTAINER: Final = re.compile(r"(?:/containers/|/docker[-/]|/libpod-)([0-9a-f]{64})(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class _Process:
    """A process; every call raises OSError once it has ended."""

    pid: str
    mount_namespace: str

    def name(self) -> str:
        with open(f"/proc/{self.pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {self.pid} ({file.read().strip()})"

    def container(self) -> str | None:
        """Return the container it runs in, as far as its cgroup or its mounts show it."""
        for file_name in ("cgroup", "mountinfo"):
            with open(f"/proc/{self.pid}/{file_name}", encoding="utf-8", errors="replace") as file:
                if found := container_in(file.read()):
                    return f"container {found}"
        return None


def describe(source: MountSource | None, target: str) -> str:
    """Name the users of a mount source, or of what is mounted at `target`, in one short line. Blocks.

    Returns:
        Such as `container 3f2c1a9b0d11, process 77 (mysqld) and 2 more`; never empty.
    """
    identity = identity_of(source)
    if identity is None:
        identity = _mounted_device(target)
    if identity is None:
        return UNSEEN_HOLDER
    return shorten(list(dict.fromkeys(_holders(identity, target)))) or UNSEEN_HOLDER


def shorten(names: list[str]) -> str:
    """Join the first names and count the others. Pure."""
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return ", ".join(names)


def container_in(text: str) -> str | None:
    """Return the short id of the container in the text of a mountinfo or cgroup file. Pure."""
    found = _CONTAINER.search(text)
    return found[1][:12] if found else None


def _holders(identity: MountIdentity, target: str) -> Iterator[str]:
    if not isinstance(identity, NamedFilesystem):
        yield from _block_holders(identity)
    deadline = time.monotonic() + _DEADLINE_S
    numbers = _numbers_of_files(identity)
    seen_namespaces = set()
    for pid in _process_ids():
        if time.monotonic() > deadline:
            return
        try:
            process = _Process(pid, os.readlink(f"/proc/{pid}/ns/mnt"))
            if _uses(process, numbers):
                yield process.container() or process.name()
            elif process.mount_namespace not in seen_namespaces:
                yield from _mounts_of_namespace(process, identity, target)
            seen_namespaces.add(process.mount_namespace)
        except OSError:
            continue  # ended, or not visible to this process


def _process_ids() -> list[str]:
    """Return the ids of all processes, ours first, so that its mount namespace is visited first."""
    own = str(os.getpid())
    others = (name for name in os.listdir("/proc") if name.isdigit() and name != own)
    return [own, *sorted(others, key=int)]


def _mounts_of_namespace(process: _Process, identity: MountIdentity, target: str) -> Iterator[str]:
    found = [entry for entry in mountinfo.parse(mountinfo.read(process.pid)) if is_of(entry, identity)]
    if process.pid == str(os.getpid()):
        yield from (f"a mount at {entry.mountpoint}" for entry in found if entry.mountpoint != target)
    elif found and not all(_goes_with(target, entry) for entry in found):
        yield process.container() or f"{process.name()} in another mount namespace"


def _goes_with(target: str, entry: MountEntry) -> bool:
    """Return whether an unmount at `target` takes this mount of another namespace with it.

    Services of systemd that see only a part of the host's files have such a copy of each mount.
    """
    groups = {own.peer_group for own in mountinfo.entries_at(mountinfo.read(), target)} - {0}
    return entry.mountpoint == target and not groups.isdisjoint((entry.peer_group, entry.master_group))


def _uses(process: _Process, numbers: set[int]) -> bool:
    """Return whether a process has the device open, or a file on it: open, executed or its directory."""
    if process.pid == str(os.getpid()):
        return False
    folder = f"/proc/{process.pid}"
    links = [f"{folder}/cwd", f"{folder}/root", f"{folder}/exe"]
    links += [f"{folder}/fd/{name}" for name in os.listdir(f"{folder}/fd")]
    return any(not numbers.isdisjoint(_device_numbers(link)) for link in links)


def _numbers_of_files(identity: MountIdentity) -> set[int]:
    """Return the device numbers that its files show: its own, or anonymous ones of what is mounted here."""
    entries = [entry for entry in mountinfo.parse(mountinfo.read()) if is_of(entry, identity)]
    if isinstance(identity, NamedFilesystem):
        return {entry.device for entry in entries}
    anonymous = (entry.mountpoint for entry in entries if has_anonymous_device(entry))
    return {identity, *(number for place in anonymous for number in _device_numbers(place)[1:])}


def _device_numbers(link: str) -> tuple[int, ...]:
    """Return the device number that a file is and that of its filesystem; none if it cannot be read."""
    try:
        return libc.device_numbers(link)
    except OSError:
        return ()


def _block_holders(device: int) -> Iterator[str]:
    """Name devices stacked upon this one, such as dm-0, and swap."""
    try:
        folder = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/holders"
        yield from (f"block device {name}" for name in sorted(os.listdir(folder)))
        with open("/proc/swaps", encoding="utf-8", errors="replace") as file:
            areas = [line.split()[0] for line in file.read().splitlines()[1:] if line.strip()]
    except OSError:
        return
    if any(device_number(area) == device for area in areas):
        yield "swap"


def _mounted_device(target: str) -> int | None:
    entries = mountinfo.entries_at(mountinfo.read(), target)
    return disk_number(entries[-1]) if entries else None
