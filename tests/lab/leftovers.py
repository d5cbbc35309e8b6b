"""Detects what tests left over in their lane.

    before = snapshot()
    ...
    assert settled_difference(before) == []

Mounts, processes, namespaces and control groups are those of the lane's namespaces. Loop devices are the
whole machine's; those count whose images lie below the lane's directory. A lab that was there before may
start processes in its own namespaces: they end with it.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import cgroups, lane, loops
from tests.lab.waiting import WaitTimeoutError, wait_until

_PLUGINS = Path("/run/docker/plugins")
_NAMED_NAMESPACES = (Path("/run/netns"), Path("/run/docker/netns"))
_OF_INTEREST = re.compile(r"dockerd|containerd|volplug|runc|qemu|mariadbd|rabbitmq|epmd")


@dataclass(frozen=True)
class Process:
    """A running process: its parent, its command line and its mount namespace, if that is readable for us."""

    parent: int
    command: str
    mounts: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The lane at one moment. Namespaces are listed with one process that is in each."""

    mounts: Counter[str]
    loop_devices: frozenset[str]
    namespaces: Mapping[str, int]
    named_namespaces: frozenset[str]
    plugins: frozenset[str]
    labs: frozenset[str]
    processes: Mapping[int, Process] = field(repr=False)


def snapshot() -> Snapshot:
    """Take a snapshot of the lane."""
    processes = _processes()
    return Snapshot(
        mounts=_mounts(),
        loop_devices=frozenset(
            f"{each.name} of {each.image}" for each in loops.attached_below(lane.directory())
        ),
        namespaces=_namespaces(processes),
        named_namespaces=frozenset(_entries(_NAMED_NAMESPACES)),
        plugins=frozenset(_entries([_PLUGINS])),
        labs=frozenset(
            [str(path) for path in lane.directory().glob("volplug-lab-*")]
            + [f"control group {cgroups.PARENT}/{name}" for name in cgroups.lab_groups()]
        ),
        processes=processes,
    )


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What was added and what was removed, one readable line each."""
    lines = [f"mount left: {mount}" for mount in (after.mounts - before.mounts)]
    lines += [f"mount gone: {mount}" for mount in (before.mounts - after.mounts)]
    lines += [f"loop device left: {item}" for item in after.loop_devices - before.loop_devices]
    # A proper cleanup removes the image too; if it still exists, the device was taken from its owner.
    lines += [
        f"loop device gone: {item}"
        for item in before.loop_devices - after.loop_devices
        if Path(item.partition(" of ")[2]).exists()
    ]
    for what, old, new in (
        ("named namespace", before.named_namespaces, after.named_namespaces),
        ("plugin", before.plugins, after.plugins),
    ):
        lines += [f"{what} left: {item}" for item in new - old]
        lines += [f"{what} gone: {item}" for item in old - new]
    lines += [f"lab left: {item}" for item in after.labs - before.labs]
    lines += _new_namespaces(before, after)
    lines += _new_processes(before, after)
    return sorted(lines)


def settled_difference(before: Snapshot, timeout_s: float = 10.0) -> list[str]:
    """The difference once it does not shrink any more: processes take a moment to end."""
    found: list[str] = []

    def nothing_left() -> bool:
        found[:] = difference(before, snapshot())
        return not found

    try:
        wait_until(nothing_left, timeout_s, "nothing is left over")
    except WaitTimeoutError:
        return found
    return []


def mounted_below(directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """What is mounted below a directory, in the order in which it can be unmounted.

    Pass ``engine.path("/proc/1/mountinfo")`` for the mounts of a private engine.
    """
    places = [line.split()[4] for line in mountinfo.read_text().splitlines()]
    return [place for place in reversed(places) if place.startswith(f"{directory}/")]


def _new_namespaces(before: Snapshot, after: Snapshot) -> list[str]:
    return [
        f"namespace left: {namespace}, held by {pid} ({after.processes[pid].command})"
        for namespace, pid in after.namespaces.items()
        if namespace not in before.namespaces and not _started_by_others(pid, before, after)
    ]


def _new_processes(before: Snapshot, after: Snapshot) -> list[str]:
    return [
        f"process left: {pid} ({process.command})"
        for pid, process in after.processes.items()
        if before.processes.get(pid, Process(0, "")).command != process.command
        and _OF_INTEREST.search(process.command)
        and pid != os.getpid()
        and not _is_of_a_lab(process, before)
        and not _started_by_others(pid, before, after)
    ]


def _is_of_a_lab(process: Process, before: Snapshot) -> bool:
    """Whether a process is in the namespaces of a lab that was there before, not in the lane's."""
    return process.mounts in before.namespaces.keys() - {os.readlink("/proc/self/ns/mnt")}


def _started_by_others(pid: int, before: Snapshot, after: Snapshot) -> bool:
    """Whether a process descends from an earlier one that is neither us nor process 1.

    Without namespaces, the machine's own programs are seen, too.
    """
    while pid not in before.processes:
        if pid not in after.processes:
            return False
        pid = after.processes[pid].parent
    return pid not in (0, 1, os.getpid())


def _mounts() -> Counter[str]:
    # Not whole lines: the numbers in them change when a mount is made again.
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return Counter(_mount(line) for line in lines)


def _mount(line: str) -> str:
    place, _, kind = line.partition(" - ")
    root, target = place.split()[3:5]
    filesystem, source = kind.split()[:2]
    return f"{target} ({filesystem}, {source}{'' if root == '/' else root})"


def _processes() -> dict[int, Process]:
    found: dict[int, Process] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # ended between the listing and the reading
        if state != "Z":
            mounts = _namespace(int(entry.name), "mnt")
            found[int(entry.name)] = Process(int(parent), " ".join(command.split())[:160], mounts)
    return found


def _namespaces(pids: Iterable[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for pid in sorted(pids):
        for kind in ("mnt", "net"):
            if namespace := _namespace(pid, kind):
                found.setdefault(namespace, pid)
    return found


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""  # ended, or not readable for us


def _entries(directories: Iterable[Path]) -> list[str]:
    return [str(path) for directory in directories if directory.is_dir() for path in directory.iterdir()]
