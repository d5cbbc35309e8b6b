"""What volplug says, what it has written down, and what the kernel shows are one."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.dockerd import Dockerd
from tests.lab import leftovers, loops
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until


def recorded(volplug: VolplugProcess) -> dict[str, int]:
    """The ledger on disk: every volume that is counted as mounted, and how often."""
    file = volplug.state_dir / "state.sqlite"
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT name, counts, doubts FROM volumes").fetchall()
    counted = {
        name: sum(json.loads(counts).values()) + sum(json.loads(doubts).values())
        for name, counts, doubts in rows
    }
    return {name: number for name, number in counted.items() if number}


def mounted(volplug: VolplugProcess) -> set[str]:
    """The volumes that the kernel shows as mounted."""
    below = leftovers.mounted_below(volplug.state_dir / "mounts")
    return {Path(place).name for place in below}


def attached(volplug: VolplugProcess) -> set[str]:
    """The volumes whose images the kernel shows as attached."""
    return {Path(device.image).stem for device in loops.attached_below(volplug.state_dir)}


async def assert_agreement(
    dockerd: Dockerd, volplug: VolplugProcess, counts: dict[str, int], *, is_written: bool = True
) -> None:
    """Exactly these volumes are counted, recorded, mounted and attached; detaching may still be under way.

    Args:
        dockerd: To ask volplug.
        volplug: Whose volumes they are.
        counts: Volume to how often it is mounted for Docker.
        is_written: False while the ledger cannot be written.
    """
    listed = (await dockerd.ok("List"))["Volumes"]
    shown = [(await dockerd.ok("Get", Name=each["Name"]))["Volume"] for each in listed]
    said = {each["Name"]: each["Status"]["mountCount"] for each in shown}
    assert {name: number for name, number in said.items() if number} == counts
    assert {each["Name"] for each in listed if each["Mountpoint"]} == counts.keys()
    if is_written:
        assert recorded(volplug) == counts
    assert mounted(volplug) == counts.keys()
    wait_until(lambda: attached(volplug) == counts.keys(), 20, f"exactly {sorted(counts)} are attached")
