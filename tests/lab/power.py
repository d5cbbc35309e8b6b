"""Faults of a whole host: its power is cut, or it is frozen."""

import contextlib
import fcntl
import os
import signal
import struct
from pathlib import Path

from tests.lab.waiting import wait_until

_TIMEOUT_S = 30.0
_LOOP_MAJOR = "7:"
# linux/fs.h: FS_IOC_SHUTDOWN, in ext4 and xfs; without the log, as when the power fails.
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_STOPPED = ("T", "t", "Z", "X")


def lose_unwritten(first_pid: int, below: Path) -> None:
    """Discard unsynced writes of the filesystems that a host has mounted.

    Otherwise the kernel would write them when the last mount ends with its namespace, unlike a power cut.

    Args:
        first_pid: the host's first process.
        below: the directory below which they are mounted; others are not touched.
    """
    for _, target in loop_mounts(first_pid):
        if not target.startswith(f"{below}/"):
            continue
        with contextlib.suppress(OSError):  # btrfs cannot do it
            descriptor = os.open(f"/proc/{first_pid}/root{target}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.ioctl(descriptor, _FS_IOC_SHUTDOWN, _NO_LOG_FLUSH)
            finally:
                os.close(descriptor)


def freeze(first_pid: int) -> None:
    """Stop all processes of a host but its first, also in containers; return once all are stopped."""

    def all_stopped() -> bool:
        moving = [pid for pid, state in processes(first_pid).items() if state not in _STOPPED]
        _signal(moving, signal.SIGSTOP)
        return not moving

    wait_until(all_stopped, _TIMEOUT_S, "every process of the host is stopped")


def thaw(first_pid: int) -> None:
    """Continue them."""
    _signal(list(processes(first_pid)), signal.SIGCONT)


def loop_mounts(pid: int) -> list[tuple[str, str]]:
    """The loop devices that are mounted in the namespace of a process, by their numbers, and where."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    fields = [line.split() for line in lines]
    return [(each[2], each[4]) for each in fields if each[2].startswith(_LOOP_MAJOR)]


def processes(first_pid: int) -> dict[int, str]:
    """The processes of a host as seen from here, with their states, including those that we started in it."""
    namespace = os.readlink(f"/proc/{first_pid}/ns/pid")
    states: dict[int, str] = {}
    parents: dict[int, int] = {}
    inside: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended between the listing and the reading
            pid = int(entry.name)
            state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            states[pid], parents[pid] = state, int(parent)
            if os.readlink(entry / "ns" / "pid") == namespace:
                inside.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return {pid: states[pid] for pid in inside - {first_pid}}


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
