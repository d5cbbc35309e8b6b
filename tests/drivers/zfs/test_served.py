"""The life of a volume in a volplug that serves, on a real pool: Docker's calls, containers, a restart."""

import platform
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsPool
from tests.served.conftest import LocalMachine, local_machine
from tests.served.volumes import container_of, is_mounted

pytestmark = [*ZFS, pytest.mark.contract]


@pytest.fixture
def machine() -> Iterator[LocalMachine]:
    with local_machine() as machine:
        yield machine


@pytest.fixture
def volplug(machine: LocalMachine, parent: str) -> Iterator[VolplugProcess]:
    config = machine.directory / "config.toml"
    config.write_text(f'[backends.tank]\ndriver = "zfs"\npool = "{parent}"\nreserve = "1MiB"\n')
    with VolplugProcess(machine, env={"VOLPLUG_CONFIG": str(config)}) as process:
        yield process


@pytest.fixture
async def dockerd(machine: LocalMachine, volplug: VolplugProcess) -> AsyncIterator[Dockerd]:
    async with Dockerd(machine.path(volplug.socket)) as dockerd:
        yield dockerd


async def mounted(dockerd: Dockerd, mount_id: str = "a") -> Path:
    return Path((await dockerd.ok("Mount", Name="db", ID=mount_id))["Mountpoint"])


async def test_a_volumes_life(dockerd: Dockerd, volplug: VolplugProcess, pool: ZfsPool, parent: str) -> None:
    options = {"size": "20MiB", "profile": "postgres", "uid": "999", "mode": "0750", "mount-opts": "noatime"}
    await dockerd.ok("Create", Name="db", Opts=options)
    asked = "recordsize,compression,atime,refquota,canmount"
    shown = pool.zfs.zfs("get", "-H", "-p", "-o", "value", asked, f"{parent}/db")
    assert shown.split() == ["8192", "on", "off", str(20 * 1024**2), "noauto"]
    path = await mounted(dockerd)
    assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (999, 0o750)
    (path / "file").write_text("data")
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert (status["fs"], status["dataset"], status["device"]) == ("zfs", f"{parent}/db", f"{parent}/db")
    assert (status["state"], status["size"], status["holder"]) == ("in-use", "20MiB", platform.node())
    await dockerd.ok("Unmount", Name="db", ID="a")
    assert not is_mounted(volplug, "db")
    assert (await mounted(dockerd) / "file").read_text() == "data"
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Remove", Name="db")
    assert (await dockerd.ok("List"))["Volumes"] == []
    assert f"{parent}/db" not in pool.zfs.zfs("list", "-H", "-o", "name").split()


async def test_a_container_that_stays_keeps_the_volume_until_it_ends(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    path = await mounted(dockerd)
    (path / "file").write_text("data")
    with container_of(path, machine.directory / "place") as pid:
        error = await dockerd.error("Unmount", Name="db", ID="a")
        assert error.startswith(
            f"the volume is still in use by process {pid} (sh) in another mount namespace"
        )
        for _ in range(2):
            assert "is still in use by" in await dockerd.error("Remove", Name="db")
        status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
        assert (status["state"], status["desired"]) == ("in-use", "detached")
        if not HAS_OPENZFS:
            assert "zfs-fuse mounts nothing twice" in await dockerd.error("Mount", Name="db", ID="b")
    assert (await mounted(dockerd) / "file").read_text() == "data"
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Remove", Name="db")


@pytest.mark.parametrize("is_state_lost", [False, True])
async def test_what_is_mounted_stays_so_across_a_kill_and_is_released_after_it(
    dockerd: Dockerd, volplug: VolplugProcess, is_state_lost: bool
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    path = await mounted(dockerd)
    (path / "file").write_text("data")
    volplug.kill()
    if is_state_lost:
        for file in volplug.state_dir.glob("state.sqlite*"):
            file.unlink()
    await dockerd.hang_up()
    volplug.start()
    assert (path / "file").read_text() == "data"
    assert (await mounted(dockerd, "b") / "file").read_text() == "data"
    await dockerd.ok("Unmount", Name="db", ID="b")
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Remove", Name="db")


async def test_options_of_a_format_and_what_was_made_by_hand_are_refused_with_the_reason(
    dockerd: Dockerd, pool: ZfsPool, parent: str
) -> None:
    assert "its volumes are zfs filesystems from their creation" in await dockerd.error(
        "Create", Name="db", Opts={"fs": "xfs"}
    )
    pool.zfs.zfs("create", f"{parent}/by-hand")
    assert (await dockerd.ok("List"))["Volumes"] == []
    assert "was not made by volplug" in await dockerd.error("Mount", Name="by-hand", ID="a")
    assert "is no volume" in await dockerd.error("Create", Name="by-hand", Opts={})
    error = await dockerd.error("Mount", Name="db", ID="a")
    assert error.startswith(f"no such volume in {parent} of host {platform.node()}")
    await dockerd.ok("Create", Name="db", Opts={})
    pool.zfs.zfs("snapshot", f"{parent}/db@backup")
    assert f"{parent}/db@backup" in await dockerd.error("Remove", Name="db")
    pool.zfs.zfs("destroy", f"{parent}/db@backup")
    await dockerd.ok("Remove", Name="db")


async def test_a_copy_under_the_name_of_an_attached_volume_is_not_served_and_the_volume_let_go(
    dockerd: Dockerd, volplug: VolplugProcess, pool: ZfsPool, parent: str
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    path = await mounted(dockerd)
    assert pool.zfs.run(["umount", str(path.parent)]).returncode == 0
    rename = ["zfs", "rename", f"{parent}/db", f"{parent}/other"]
    wait_until(lambda: pool.zfs.run(rename).returncode == 0, 10, "the end of the mount is heard of")
    pool.zfs.zfs("snapshot", f"{parent}/other@s")
    copy = f"zfs send -p {parent}/other@s | zfs receive -u {parent}/db"
    assert pool.zfs.run(["sh", "-c", copy]).returncode == 0
    assert "is another dataset now" in await dockerd.error("Mount", Name="db", ID="b")
    await dockerd.call("Unmount", Name="db", ID="a")  # what was read last may be believed for 5 s more
    notes = volplug.state_dir / "backends" / "tank.attached"
    wait_until(lambda: not list(notes.glob("*/*")), 20, "it is detached")
    assert "was not made by volplug, or is a copy" in await dockerd.error("Mount", Name="db", ID="b")
    await dockerd.ok("Remove", Name="db")
    assert pool.zfs.zfs("list", "-H", "-o", "name", f"{parent}/db", f"{parent}/other")
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["other"]
