"""What a test run may leave behind on a machine, and whether it did.

    before = snapshot()
    ...
    assert settled_difference(before) == []

Another test run or another person may work on the same machine at the same time; what
demonstrably belongs to them (a program started by one that was there before, a file of another lab
that still runs or of another test run) is not counted.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import cgroups, loops
from tests.lab.waiting import WaitTimeoutError, wait_until

_PLUGINS = Path("/run/docker/plugins")
_NAMED_NAMESPACES = (Path("/run/netns"), Path("/run/docker/netns"))
_LAB_DIRECTORIES = Path("/var/tmp")  # noqa: S108 - looked at, nothing is made there
_NO_IMAGES = {"data", "plugin", "previous"}  # of the engine and of managed plugins: large, and none of ours
_OF_INTEREST = re.compile(r"dockerd|containerd|volplug|runc|qemu")
_PYTEST_DIRECTORY = re.compile(r"/\S*/pytest-of-\w+/pytest-\d+")
_LAB_NAME = re.compile(r"volplug-lab-(\d+)-\w+")


@dataclass(frozen=True)
class Process:
    """A running process: its parent, and its command line for people."""

    parent: int
    command: str


@dataclass(frozen=True)
class Snapshot:
    """The machine at one moment. Namespaces are listed with one process that is in each."""

    mounts: Counter[str]
    loop_devices: frozenset[str]
    namespaces: Mapping[str, int]
    named_namespaces: frozenset[str]
    plugins: frozenset[str]
    labs: frozenset[str]
    processes: Mapping[int, Process] = field(repr=False)


def snapshot() -> Snapshot:
    """Look at the machine now."""
    processes = _processes()
    return Snapshot(
        mounts=_mounts(),
        loop_devices=frozenset(f"{device.name} of {_image(device)}" for device in loops.attached()),
        namespaces=_namespaces(processes),
        named_namespaces=frozenset(_entries(_NAMED_NAMESPACES)),
        plugins=frozenset(_entries([_PLUGINS])),
        labs=frozenset(
            [str(path) for path in _LAB_DIRECTORIES.glob("volplug-lab-*")]
            + [f"control group {cgroups.PARENT}/{name}" for name in cgroups.lab_groups()]
        ),
        processes=processes,
    )


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What is there now and was not before, or the other way round, one readable line each."""
    lines = [f"mount left: {mount}" for mount in (after.mounts - before.mounts)]
    lines += [f"mount gone: {mount}" for mount in (before.mounts - after.mounts)]
    lines += [f"loop device left: {item}" for item in after.loop_devices - before.loop_devices]
    # Whoever ends properly removes the image too; one that is still there was detached under its owner.
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
    return sorted(line for line in lines if not _of_others(line))


def settled_difference(before: Snapshot, timeout_s: float = 10.0) -> list[str]:
    """The difference once nothing of it goes away by itself any more: processes take a moment to end."""
    found: list[str] = []

    def nothing_left() -> bool:
        found[:] = difference(before, snapshot())
        return not found

    try:
        wait_until(nothing_left, timeout_s, "nothing is left behind")
    except WaitTimeoutError:
        return found
    return []


def mounted_below(directory: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """What is mounted below a directory, in the order in which it can be unmounted.

    ``engine.path("/proc/1/mountinfo")`` tells it about the mounts of a private engine.
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
        and not _started_by_others(pid, before, after)
    ]


def _started_by_others(pid: int, before: Snapshot, after: Snapshot) -> bool:
    """Whether a process descends from one that was there before and is neither us nor process 1."""
    while pid not in before.processes:
        if pid not in after.processes:
            return False
        pid = after.processes[pid].parent
    return pid not in (0, 1, os.getpid())


def _of_others(line: str) -> bool:
    """Whether a line is about a file of another lab or of another test run."""
    return _of_another_lab(line) or _of_another_test_run(line)


def _of_another_lab(line: str) -> bool:
    match = _LAB_NAME.search(line)
    if match is None or int(match[1]) == os.getpid():
        return False
    # What a dead one left is worth telling, what it took away is its own affair.
    return " gone: " in line or Path(f"/proc/{match[1]}").exists()


def _of_another_test_run(line: str) -> bool:
    match = _PYTEST_DIRECTORY.search(line)
    if match is None:
        return False
    try:
        # pytest writes its process id there, and removes the file when it ends.
        return (Path(match[0]) / ".lock").read_text().strip() != str(os.getpid())
    except OSError:
        return True


def _mounts() -> Counter[str]:
    # Not whole lines: the numbers in them change when a mount is made again.
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return Counter(_mount(line) for line in lines)


def _mount(line: str) -> str:
    place, _, kind = line.partition(" - ")
    root, target = place.split()[3:5]
    filesystem, source = kind.split()[:2]
    return f"{target} ({filesystem}, {source}{'' if root == '/' else root})"


def _image(device: loops.LoopDevice) -> str:
    """The image's path; that of a managed plugin's is one in its own namespace, and tells not whose it is."""
    try:
        status = os.stat(device.image)
        if (status.st_dev, status.st_ino) == device.file:
            return device.image
    except OSError:
        pass  # no such path here
    for lab in _LAB_DIRECTORIES.glob("volplug-lab-*"):
        for parent, below, names in os.walk(lab):
            below[:] = [name for name in below if name not in _NO_IMAGES]
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.lstat(f"{parent}/{name}")
                    if (status.st_dev, status.st_ino) == device.file:
                        return f"{parent}/{name}"
    return device.image


def _processes() -> dict[int, Process]:
    found: dict[int, Process] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # ended between the listing and the reading
        if state != "Z":
            found[int(entry.name)] = Process(int(parent), " ".join(command.split())[:160])
    return found


def _namespaces(pids: Iterable[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for pid in sorted(pids):
        for kind in ("mnt", "net"):
            try:
                found.setdefault(os.readlink(f"/proc/{pid}/ns/{kind}"), pid)
            except OSError:
                continue  # ended, or not ours to look at
    return found


def _entries(directories: Iterable[Path]) -> list[str]:
    return [str(path) for directory in directories if directory.is_dir() for path in directory.iterdir()]
