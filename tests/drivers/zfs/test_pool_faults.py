"""A pool fails under a volplug that serves: it says how, nothing is lost, and after the repair all goes on.

A mirror of two files; as far as its daemon has to be killed for a fault, only on zfs-fuse.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.dockerd import Dockerd
from tests.doctor.conftest import flags_of, own_settings
from tests.drivers.zfs.volumes import despite_crashes
from tests.faults.records import Records
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import HostZfs, ZfsFuse, ZfsPool
from tests.served.conftest import LocalMachine, fork_server, local_machine
from volplug.doctor.backends import check_backend
from volplug.doctor.checks import findings_of
from volplug.doctor.command import examination_of
from volplug.sizes import MIB

__all__ = ["fork_server", "own_settings"]

pytestmark = [*ZFS, pytest.mark.faults]
by_daemon = pytest.mark.skipif(HAS_OPENZFS, reason="the kernel's ZFS has no daemon to kill")

_NUMBERS = count()
_OPTIONS: Final = {"size": "24MiB"}
_FILE_BYTES: Final = 64 * MIB


@dataclass
class Site:
    """A pool, and a volplug with a volume on it, called db.

    Attributes:
        pool: Two files, as a mirror.
        machine: Where volplug runs.
        dockerd: Calls it.
        records: What was written into the volume.
    """

    pool: ZfsPool
    machine: LocalMachine
    dockerd: Dockerd
    records: Records

    async def mount(self, mount_id: str) -> None:
        path = (await self.dockerd.ok("Mount", Name="db", ID=mount_id))["Mountpoint"]
        self.records.directory = Path(path)

    async def unmount(self, mount_id: str) -> None:
        await self.dockerd.ok("Unmount", Name="db", ID=mount_id)
        notes = self.machine.directory / "volplug/backends"
        wait_until(lambda: not list(notes.glob("tank.attached/*/*")), 10, "db is detached")

    def synced(self) -> None:
        """Have all be on the disks: zfs-fuse loses even what was fsynced; a new dataset waits for that."""
        self.pool.zfs.zfs("create", f"{self.pool.name}/s{next(_NUMBERS)}")

    async def diagnosis(self) -> list[str]:
        """What doctor says of the backend."""
        flags = {**flags_of(self.machine), "config": str(self.machine.directory / "config.toml")}
        found = await findings_of(await examination_of(flags), [check_backend])
        return [f"{each.level} {each.message}. {each.remedy}" for each in found]

    async def goes_on(self) -> None:
        """Mount, find all that was written, write, unmount; create and remove another volume."""
        await self.mount("again")
        self.records.check()
        self.records.write()
        await self.unmount("again")
        await self.dockerd.ok("Create", Name="other", Opts=_OPTIONS)
        await self.dockerd.ok("Remove", Name="other")
        assert (await self.diagnosis())[-1].startswith("green the pool is online")


Check = Callable[[Site], Awaitable[None]]
CheckOn = Callable[[Check], Awaitable[None]]


@pytest.fixture
def check_on(zfs: HostZfs, fork_server: ForkServer) -> CheckOn:
    """Have a check made on a new site, whose volume is mounted, with something written to it."""

    async def attempt(check: Check) -> None:
        pool = zfs.make_pool(f"faulty{os.getpid()}x{next(_NUMBERS)}", size_bytes=_FILE_BYTES, files=2)
        with local_machine(fork_server) as machine:
            config = machine.directory / "config.toml"
            config.write_text(
                f'[backends.tank]\ndriver = "zfs"\npool = "{pool.new_parent()}"\nreserve = "4MiB"\n'
            )
            with VolplugProcess(machine, env={"VOLPLUG_CONFIG": str(config)}):
                async with Dockerd(machine.directory / "p.sock") as dockerd:
                    site = Site(pool, machine, dockerd, Records(machine.directory))
                    await dockerd.ok("Create", Name="db", Opts=_OPTIONS)
                    await site.mount("a")
                    site.records.write(2)
                    await check(site)

    return lambda check: despite_crashes(zfs, lambda: attempt(check))


def _daemon_of(pool: ZfsPool) -> ZfsFuse:
    assert isinstance(pool.zfs, ZfsFuse)
    return pool.zfs


@contextmanager
def _exported(pool: ZfsPool) -> Iterator[None]:
    export = ["zpool", "export", pool.name]
    wait_until(lambda: pool.zfs.run(export).returncode == 0, 10, "the daemon knows that nothing is mounted")
    try:
        yield
    finally:
        pool.zfs.zpool("import", "-d", str(pool.zfs.directory), pool.name)


@contextmanager
def _killed(pool: ZfsPool) -> Iterator[None]:
    _daemon_of(pool).kill()
    try:
        yield
    finally:
        _daemon_of(pool).start()


@contextmanager
def _replaced(pool: ZfsPool, size_bytes: int | None) -> Iterator[None]:
    """Other files are in the place of all while nothing has them open: of zeros, or none at all."""
    _daemon_of(pool).kill()
    for file in pool.files:
        file.rename(file.with_suffix(".kept"))
        if size_bytes is not None:
            file.touch()
            os.truncate(file, size_bytes)
    _daemon_of(pool).start()
    try:
        yield
    finally:
        _daemon_of(pool).kill()
        for file in pool.files:
            file.with_suffix(".kept").rename(file)
        _daemon_of(pool).start()


@dataclass(frozen=True)
class Fault:
    """A fault of a whole pool that is not in use.

    Attributes:
        begin: Lets it happen, and repairs it.
        cause: What calls answer, with the pool's name in it.
        finding: What doctor says.
    """

    begin: Callable[[ZfsPool], AbstractContextManager[None]]
    cause: str
    finding: str


_EXPORTED: Final = Fault(_exported, "there is no dataset {}/t0", "red pool is not imported. zpool import")
_OF_DAEMON: Final = (
    Fault(
        _killed,
        "ZFS is not running on this host",
        "red ZFS is not running on this host. Load its module: modprobe zfs; or start the daemon of zfs-fuse",
    ),
    *(
        Fault(
            partial(_replaced, size_bytes=size_bytes),
            cause,
            "red the pool is faulted: too many of its disks are damaged or missing ({}). "
            "zpool status {} names them",
        )
        for size_bytes, cause in (
            (_FILE_BYTES, "the pool's disks are damaged or missing"),
            (0, "the pool's disks are damaged or missing"),
            (None, "there is no dataset {}/t0"),
        )
    ),
)


@pytest.mark.parametrize(
    "faults",
    [
        [_EXPORTED, *_OF_DAEMON[:2]],
        pytest.param(_OF_DAEMON[2:], marks=[by_daemon, pytest.mark.slow]),
    ],
)
async def test_a_pool_that_is_away_is_told_and_nothing_is_lost(
    check_on: CheckOn, faults: Sequence[Fault]
) -> None:
    async def check(site: Site) -> None:
        await site.unmount("a")
        name = site.pool.name
        for fault in faults[:1] if HAS_OPENZFS else faults:
            site.synced()
            with fault.begin(site.pool):
                cause, finding = (text.replace("{}", name) for text in (fault.cause, fault.finding))
                assert (await site.dockerd.error("Mount", Name="db", ID="b")).startswith(f"{cause} [mount")
                assert (await site.dockerd.error("Remove", Name="db")).startswith(f"{cause} [remove")
                error = await site.dockerd.error("Create", Name="new", Opts=_OPTIONS)
                assert error.startswith((f"{cause} [create", f"pool {name} is not imported [create"))
                assert await site.dockerd.raw("/VolumeDriver.Get", b'{"Name": "unknown"}') is None
                told, own = await site.diagnosis()
                assert (told.startswith("red volplug cannot use it: "), own) == (True, finding)
            await site.goes_on()

    await check_on(check)


@by_daemon
async def test_a_daemon_that_ends_under_a_volume_in_use_takes_nothing_that_is_on_the_disks(
    check_on: CheckOn,
) -> None:
    async def check(site: Site) -> None:
        site.synced()
        with _killed(site.pool):
            assert site.records.write_until_error().errno == errno.ENOTCONN
            error = await site.dockerd.error("Unmount", Name="db", ID="a")
            assert error.startswith("ZFS is not running on this host [unmount")
        await site.goes_on()

    await check_on(check)


async def test_a_pool_that_gets_full_under_a_volume_in_use(check_on: CheckOn) -> None:
    """Metadata is written with the reserve, volumes are released and removed; doctor says that it is full."""

    async def check(site: Site) -> None:
        await site.dockerd.ok("Create", Name="never-used", Opts=_OPTIONS)
        await site.dockerd.ok("Create", Name="removed", Opts=_OPTIONS)
        place = site.machine.directory / "filler"
        site.pool.zfs.zfs("create", "-o", f"mountpoint={place}", f"{site.pool.name}/filler")
        fill = site.pool.zfs.run(["dd", "if=/dev/urandom", f"of={place}/file", "bs=1M"])
        assert "No space left" in fill.stderr
        assert site.records.write_until_error().errno == errno.ENOSPC
        error = await site.dockerd.error("Create", Name="new", Opts=_OPTIONS)
        assert error.startswith("the pool is full [create")
        # ZFS frees and counts space some time later.
        (found,) = await site.diagnosis()
        assert re.fullmatch(r"yellow the pool is (9\d|100)% full\. Free space in it, or add disks", found)
        await site.unmount("a")
        await site.mount("b")
        site.records.check()
        await site.unmount("b")
        await site.dockerd.ok("Remove", Name="removed")
        error = await site.dockerd.error("Mount", Name="never-used", ID="a")
        assert "/never-used/data cannot be made: No space left on device [mount" in error
        (place / "file").unlink()
        site.pool.zfs.zfs("unmount", f"{site.pool.name}/filler")
        wait_until(
            lambda: site.pool.zfs.run(["zfs", "destroy", f"{site.pool.name}/filler"]).returncode == 0, 10, "x"
        )
        await site.goes_on()
        await site.dockerd.ok("Mount", Name="never-used", ID="b")
        await site.dockerd.ok("Unmount", Name="never-used", ID="b")

    await check_on(check)


async def test_a_disk_of_a_mirror_that_goes_under_a_volume_in_use_is_named_and_comes_back(
    check_on: CheckOn,
) -> None:
    async def check(site: Site) -> None:
        lost = str(site.pool.files[1])
        site.pool.zfs.zpool("offline", site.pool.name, lost)
        site.records.write()
        await site.dockerd.ok("Create", Name="new", Opts=_OPTIONS)
        (found,) = await site.diagnosis()
        assert found.startswith("yellow disks are failing or missing: ")
        assert f"{lost} OFFLINE. zpool status; then zpool online" in found
        site.pool.zfs.zpool("online", site.pool.name, lost)
        await site.unmount("a")
        await site.goes_on()

    await check_on(check)
