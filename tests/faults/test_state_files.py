"""The state file is lost, damaged or too new while volumes are mounted: containers go on, so does volplug."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.faults.agreement import assert_agreement, mounted, recorded
from tests.faults.records import Records
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import container_of
from tests.store.files import set_version

pytestmark = [pytest.mark.faults, pytest.mark.loop]

_USED, _UNUSED = "used", "unused"


def _delete(file: Path) -> None:
    for each in _all_of(file):
        each.unlink()


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _cut_in_half(file: Path) -> None:
    """The second half of a file that was whole."""
    _write_all_into(file)
    os.truncate(file, file.stat().st_size // 2)


def _overwrite_pages(file: Path) -> None:
    """Noise in the middle, behind a header that makes sense."""
    _write_all_into(file)
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(file.stat().st_size - 4096))


def _overwrite_log(file: Path) -> None:
    """Noise where the last writes are: SQLite takes them for never made."""
    log = file.with_name(f"{file.name}-wal")
    log.write_bytes(os.urandom(log.stat().st_size))


def _all_of(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.name}*"))


def _write_all_into(file: Path) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _client(machine: LocalMachine) -> Dockerd:
    return Dockerd(machine.directory / "p.sock")


async def _mount_both(dockerd: Dockerd) -> list[Records]:
    written = []
    for name in (_USED, _UNUSED):
        await dockerd.ok("Create", Name=name, Opts={"size": "8MiB"})
        records = Records(Path((await dockerd.ok("Mount", Name=name, ID="a"))["Mountpoint"]))
        records.write(5)
        written.append(records)
    return written


@pytest.mark.parametrize("spoil", [_delete, _empty, _cut_in_half, _overwrite_pages, _overwrite_log])
async def test_without_its_state_file_volplug_finds_out_who_uses_what(
    machine: LocalMachine, spoil: Callable[[Path], None]
) -> None:
    with VolplugProcess(machine, env={"VOLPLUG_MOUNT_GRACE_S": "0.1"}) as volplug:
        async with _client(machine) as dockerd:
            written = await _mount_both(dockerd)
        path = volplug.state_dir / "mounts" / _USED / "data"
        place = machine.directory / "in-container"
        with container_of(path, place) as container:
            written[0].directory = Path(f"/proc/{container}/root{place}")
            volplug.kill()
            spoil(volplug.state_dir / "state.sqlite")
            written[0].write(5)
            volplug.start()
            async with _client(machine) as dockerd:
                wait_until(lambda: mounted(volplug) == {_USED}, 20, "what nobody uses is unmounted")
                written[0].write(5)
                written[0].check()
                await dockerd.ok("Mount", Name=_USED, ID="b")
                await dockerd.ok("Mount", Name=_UNUSED, ID="b")
                for records in written:
                    records.check()
                    records.write(5)
                wait_until(lambda: recorded(volplug).keys() == {_USED, _UNUSED}, 20, "both are recorded")
                await dockerd.ok("Unmount", Name=_UNUSED, ID="b")
            written[0].directory = path
        async with _client(machine) as dockerd:
            for mount_id in ("a", "b"):
                await dockerd.ok("Unmount", Name=_USED, ID=mount_id)
            wait_until(lambda: not mounted(volplug), 20, "what nobody uses is unmounted")
            await assert_agreement(dockerd, volplug, {})
            for name, records in zip((_USED, _UNUSED), written, strict=True):
                await dockerd.ok("Mount", Name=name, ID="c")
                records.check()
                await dockerd.ok("Unmount", Name=name, ID="c")
            await assert_agreement(dockerd, volplug, {})


async def test_a_file_of_a_newer_version_keeps_its_counts_until_that_version_is_back(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    async with _client(machine) as dockerd:
        written = await _mount_both(dockerd)
        await assert_agreement(dockerd, volplug, {_USED: 1, _UNUSED: 1})
    volplug.kill()
    file = volplug.state_dir / "state.sqlite"
    set_version(file, 99)
    volplug.start()
    async with _client(machine) as dockerd:
        for verb in ("Mount", "Unmount", "Remove"):
            assert await dockerd.error(verb, Name=_USED, ID="a") == (
                f"{file} is of version 99, this volplug reads up to version 3. "
                "Install the newer volplug again."
            )
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"used"}') is None
        for records in written:
            records.write(5)
    volplug.kill()
    assert mounted(volplug) == {_USED, _UNUSED}
    set_version(file, 3)
    volplug.start()
    async with _client(machine) as dockerd:
        await assert_agreement(dockerd, volplug, {_USED: 1, _UNUSED: 1})
        for records in written:
            records.check()
        for name in (_USED, _UNUSED):
            await dockerd.ok("Unmount", Name=name, ID="a")
        await assert_agreement(dockerd, volplug, {})
