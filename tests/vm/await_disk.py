"""Runs in a guest: waits for the disk with the serial in argv, as volplug's drivers do.

Only an event of the kernel can wake it. It says "waiting", then which events there were, then what it found.
"""

import asyncio
import sys
from pathlib import Path

import pyudev

from volplug.host import devices
from volplug.host.threads import Pool

_NEVER_S = 3600.0


def find(serial: str) -> str | None:
    """The disk's name, or None if there is no such disk yet."""
    for shown in Path("/sys/block").glob("nvme*n*"):
        if (shown / "device" / "serial").read_text().strip() == serial:
            return shown.name
    return None


async def main(serial: str) -> None:
    """Wait for it."""
    devices._RECHECK_S = _NEVER_S  # type: ignore[misc]  # without it the next look would do, event or not
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("block")
    monitor.start()
    asked = 0

    def ask() -> str | None:
        nonlocal asked
        asked += 1
        found = find(serial)
        if asked == 1:  # after the look, or a disk plugged meanwhile would be found without an event
            print("waiting", flush=True)  # noqa: T201 - that is how it says it
        return found

    found = await devices.wait_for(Pool("test", 1), ask, _NEVER_S)
    while (event := monitor.poll(timeout=0)) is not None:
        print(event.action, event.sys_name)  # noqa: T201
    print("found", found, flush=True)  # noqa: T201


asyncio.run(main(sys.argv[1]))
