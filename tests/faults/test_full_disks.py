"""Disks of this host fill up: what was acknowledged stays, and what could not be done is done later."""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.faults.agreement import assert_agreement, mounted, recorded
from tests.faults.disks import SmallDisk, small_disk
from tests.faults.records import Records
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import mount_of, record_of

pytestmark = [pytest.mark.faults, pytest.mark.loop]

_SPARSE = {"size": "64MiB", "profile": "sparse"}


@pytest.fixture
def image_disk(machine: LocalMachine) -> Iterator[SmallDisk]:
    """The disk of the images, with room for one volume and some more."""
    place = machine.directory / "volplug" / "backends" / "loop"
    with small_disk(machine.directory / "small.disk", place, 96) as disk:
        yield disk


def _context(volume_id: str) -> str:
    return f'[mount "db", loop {volume_id}, node {platform.node()}]'


@pytest.fixture
async def volume_id(image_disk: SmallDisk, dockerd: Dockerd) -> str:
    """A new sparse volume on that disk, called db."""
    await dockerd.ok("Create", Name="db", Opts=_SPARSE)
    return str((await dockerd.ok("Get", Name="db"))["Volume"]["Status"]["id"])


@pytest.mark.parametrize("room_bytes", [0, 65536])
async def test_a_format_that_does_not_fit_on_the_disk_is_made_once_it_does(
    image_disk: SmallDisk, dockerd: Dockerd, volplug: VolplugProcess, volume_id: str, room_bytes: int
) -> None:
    image_disk.fill(but_bytes=room_bytes)
    cause, remedy = {
        0: (
            f"the record {record_of(volplug, 'db')} cannot be written: No space left on device",
            " Check its disk: full, or read-only?",
        ),
        65536: (
            "mkfs.ext4 ended with exit code 1: mkfs.ext4: Input/output error while writing out and "
            "closing file system",
            "",
        ),
    }[room_bytes]
    for mount_id in ("a", "b"):
        error = await dockerd.error("Mount", Name="db", ID=mount_id)
        assert error == f"{cause} {_context(volume_id)}.{remedy}"
    await assert_agreement(dockerd, volplug, {})
    image_disk.make_room()
    path = Path((await dockerd.ok("Mount", Name="db", ID="c"))["Mountpoint"])
    Records(path).write(20)
    await assert_agreement(dockerd, volplug, {"db": 1})
    await dockerd.ok("Unmount", Name="db", ID="c")
    await assert_agreement(dockerd, volplug, {})


async def test_a_sparse_volume_on_a_full_disk_loses_nothing_that_was_acknowledged(
    image_disk: SmallDisk, dockerd: Dockerd, volplug: VolplugProcess, volume_id: str
) -> None:
    """The journal holds what the disk does not take at the unmount, until it can be replayed."""
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    records = Records(path)
    records.write(60)
    image_disk.fill()
    records.write_until_error()
    records.check()
    await assert_agreement(dockerd, volplug, {"db": 1})
    await dockerd.ok("Unmount", Name="db", ID="a")
    await assert_agreement(dockerd, volplug, {})
    for mount_id in ("b", "c"):
        error = await dockerd.error("Mount", Name="db", ID=mount_id)
        head, _, rest = error.partition("/dev/loop")
        assert head == "the journal on "
        assert rest.lstrip("0123456789") == (
            f" cannot be replayed, and was kept: Input/output error {_context(volume_id)}. "
            "Check its disk: full, or failing? The kernel's log (dmesg) has the details."
        )
    await assert_agreement(dockerd, volplug, {})
    image_disk.make_room()
    await dockerd.ok("Mount", Name="db", ID="d")
    records.check()
    records.write(20)
    records.check()
    await dockerd.ok("Unmount", Name="db", ID="d")
    await assert_agreement(dockerd, volplug, {})


@pytest.fixture
def state_disk(machine: LocalMachine) -> Iterator[SmallDisk]:
    """The disk of the ledger; the images lie on another, and so may the mountpoints."""
    with small_disk(machine.directory / "small.disk", machine.directory / "volplug", 16) as disk:
        place_elsewhere(machine, disk.directory / "backends")
        yield disk


def place_elsewhere(machine: LocalMachine, directory: Path) -> None:
    """Bind a directory of the machine's own disk at a place on the small one."""
    for each in (machine.directory / directory.name, directory):
        each.mkdir()
    subprocess.run(["mount", "--bind", machine.directory / directory.name, directory], check=True)


async def _two_volumes_one_mounted(dockerd: Dockerd) -> Path:
    for name in ("db", "other"):
        await dockerd.ok("Create", Name=name, Opts={"size": "8MiB"})
    return Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])


async def test_a_full_disk_of_the_ledger_keeps_nobody_from_what_he_has(
    machine: LocalMachine, state_disk: SmallDisk, volplug: VolplugProcess
) -> None:
    async with Dockerd(machine.directory / "p.sock") as dockerd:
        records = Records(await _two_volumes_one_mounted(dockerd))
        records.write(5)
        await assert_agreement(dockerd, volplug, {"db": 1})
        state_disk.fill()
        error = await dockerd.error("Mount", Name="other", ID="a")
        cause = f"the directory {mount_of(volplug, 'other')} cannot be made: No space left on device"
        assert re.fullmatch(
            rf'{re.escape(cause)} \[mount "other", loop loop-[0-9a-f]+, node {platform.node()}\]\.', error
        )
        await dockerd.ok("Mount", Name="db", ID="b")
        await assert_agreement(dockerd, volplug, {"db": 2}, is_written=False)
        await dockerd.ok("Unmount", Name="db", ID="a")
        await dockerd.ok("Create", Name="third", Opts={"size": "8MiB"})
        await dockerd.ok("Remove", Name="third")
        await assert_agreement(dockerd, volplug, {"db": 1}, is_written=False)
    volplug.kill()
    volplug.start({"VOLPLUG_MOUNT_GRACE_S": "1"})  # the Mounts before the kill are in doubt that much later
    async with Dockerd(machine.directory / "p.sock") as dockerd:
        await assert_agreement(dockerd, volplug, recorded(volplug), is_written=False)
        records.write(5)
        await dockerd.ok("Mount", Name="db", ID="c")
        state_disk.make_room()
        await dockerd.ok("Unmount", Name="db", ID="c")
        await dockerd.ok("Unmount", Name="db", ID="b")
        # The count goes a moment after the mount.
        told = "nobody uses db any more, and volplug finds out"
        wait_until(lambda: not mounted(volplug) and not recorded(volplug), 20, told)
        await assert_agreement(dockerd, volplug, {})
        await dockerd.ok("Mount", Name="other", ID="d")
        await dockerd.ok("Mount", Name="db", ID="d")
        records.check()
        await assert_agreement(dockerd, volplug, {"db": 1, "other": 1})
        for name in ("db", "other"):
            await dockerd.ok("Unmount", Name=name, ID="d")
        await assert_agreement(dockerd, volplug, {})


async def test_a_mount_that_could_not_be_recorded_is_found_by_the_next_start(
    machine: LocalMachine, state_disk: SmallDisk
) -> None:
    place_elsewhere(machine, state_disk.directory / "mounts")
    with VolplugProcess(machine) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            records = Records((await _two_volumes_one_mounted(dockerd)).parents[1] / "other" / "data")
            state_disk.fill()
            await dockerd.ok("Mount", Name="other", ID="a")
            records.write(5)
            await assert_agreement(dockerd, volplug, {"db": 1, "other": 1}, is_written=False)
        volplug.kill()
        assert recorded(volplug) == {"db": 1}
        volplug.start()
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            status = (await dockerd.ok("Get", Name="other"))["Volume"]["Status"]
            assert (status["mountCount"], status["holdersUnknown"]) == (0, True)
            records.write(5)
            assert mounted(volplug) == {"db", "other"}
            state_disk.make_room()
            for name in ("db", "other"):
                await dockerd.ok("Unmount", Name=name, ID="a")
            wait_until(lambda: not mounted(volplug), 20, "nobody uses them, and volplug finds out")
            await assert_agreement(dockerd, volplug, {})
            await dockerd.ok("Mount", Name="other", ID="b")
            records.check()
            await dockerd.ok("Unmount", Name="other", ID="b")
            await assert_agreement(dockerd, volplug, {})
