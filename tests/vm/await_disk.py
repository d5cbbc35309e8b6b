"""Runs in a guest: waits for the disk with the serial in argv, as volplug's drivers do.

Only an event of the kernel can wake it. It prints "waiting", then the events, then the disk.
"""

import asyncio
import sys
from pathlib import Path

import pyudev

from volplug.host.disk_watch import DiskWatch
from volplug.host.threads import Pool

_NEVER_S = 3600.0


def find(serial: str) -> str | None:
    """The disk's name, or None if there is no such disk yet."""
    for shown in Path("/sys/block").glob("nvme*n*"):
        if (shown / "device" / "serial").read_text().strip() == serial:
            return shown.name
    return None


async def main(serial: str) -> None:
    """Wait for the disk."""
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("block")
    monitor.start()
    scans = 0

    def scan() -> str | None:
        nonlocal scans
        scans += 1
        found = find(serial)
        if scans == 2:  # the first with a listener; only after it does a plugged disk need an event
            print("waiting", flush=True)  # noqa: T201 - that is how it says it
        return found

    # With the usual recheck the disk would be found without an event, too.
    watch = DiskWatch(scan, Pool("test", 1), recheck_s=_NEVER_S)
    found = await watch.until(lambda name: name, _NEVER_S)
    while (event := monitor.poll(timeout=0)) is not None:
        print(event.action, event.sys_name)  # noqa: T201
    print("found", found, flush=True)  # noqa: T201


asyncio.run(main(sys.argv[1]))
