"""Somebody still uses the filesystem: nothing is detached or deleted, and it goes on once they have left."""

import platform
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import (
    container_of,
    image_of,
    is_attached,
    is_mounted,
    mount_of,
    onlooker,
    process_in,
    wait_until_detached,
)

pytestmark = [pytest.mark.loop, pytest.mark.contract]

_REMEDY = "Stop what uses it; volplug retries until it is free."


async def _mounted(dockerd: Dockerd) -> tuple[Path, str]:
    """Create and mount a volume; return its path and its id."""
    await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "kept").write_text("data")
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    return path, status["id"]


def _in_use(verb: str, volume_id: str, holder: str) -> str:
    context = f'[{verb} "db", loop {volume_id}, node {platform.node()}]'
    return f"the volume is still in use by {holder} {context}. {_REMEDY}"


async def test_a_process_that_stays_keeps_the_volume_mounted(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    path, volume_id = await _mounted(dockerd)
    with process_in(path) as pid:
        holder = f"process {pid} ({_comm(pid)})"
        error = await dockerd.error("Unmount", Name="db", ID="a")
        assert error == _in_use("unmount", volume_id, holder)
        assert await dockerd.error("Remove", Name="db") == _in_use("remove", volume_id, holder)
        assert (path / "kept").read_text() == "data"
        status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
        assert (status["desired"], status["mountCount"]) == ("detached", 0)
    wait_until_detached(volplug, "db")
    assert not is_mounted(volplug, "db")
    await dockerd.ok("Remove", Name="db")


async def test_a_container_that_stays_keeps_the_volume_attached(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    path, volume_id = await _mounted(dockerd)
    place = machine.directory / "in-container"
    with container_of(path, place) as pid:
        holder = f"process {pid} (sh) in another mount namespace"
        error = await dockerd.error("Unmount", Name="db", ID="a")
        assert error == _in_use("unmount", volume_id, holder)
        assert not is_mounted(volplug, "db")
        assert await dockerd.error("Remove", Name="db") == _in_use("remove", volume_id, holder)
        assert is_attached(volplug, "db")
        assert image_of(volplug, "db").exists()
        (_seen_by(pid, place) / "late").write_text("written while held")
    wait_until_detached(volplug, "db")
    await dockerd.ok("Mount", Name="db", ID="b")
    assert (path / "late").read_text() == "written while held"
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")


async def test_a_held_volume_can_be_mounted_again_on_the_same_data(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    path, _ = await _mounted(dockerd)
    place = machine.directory / "in-container"
    with container_of(path, place) as pid:
        await dockerd.error("Unmount", Name="db", ID="a")
        await dockerd.ok("Mount", Name="db", ID="b")
        (_seen_by(pid, place) / "seen").write_text("by both")
        assert (path / "seen").read_text() == "by both"
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")


async def test_a_namespace_that_only_looks_on_does_not_keep_the_volume(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    """Removing the bare directory takes the mount out of namespaces that hold no more than a copy of it."""
    await _mounted(dockerd)
    with onlooker():
        await dockerd.ok("Unmount", Name="db", ID="a")
        wait_until_detached(volplug, "db")
        await dockerd.ok("Remove", Name="db")


def _seen_by(pid: int, path: Path) -> Path:
    return Path(f"/proc/{pid}/root") / str(path).lstrip("/")


async def test_a_volume_in_use_is_not_removed_while_its_count_is_fresh(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await _mounted(dockerd)
    error = await dockerd.error("Remove", Name="db")
    assert error.startswith("the volume was mounted for Docker ")
    assert 's ago and not unmounted [remove "db"]. Stop the container that uses it, or try again in ' in error
    assert is_mounted(volplug, "db")
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Remove", Name="db")
    assert not image_of(volplug, "db").exists()


async def test_a_lost_ledger_keeps_mounts_until_nobody_uses_them(machine: LocalMachine) -> None:
    with VolplugProcess(machine) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            path, volume_id = await _mounted(dockerd)
        volplug.kill()
        for file in volplug.state_dir.glob("state.sqlite*"):
            file.unlink()
        volplug.start()
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
            assert status["holdersUnknown"] is True
            with process_in(path) as pid:
                await dockerd.ok("Unmount", Name="db", ID="whoever")
                error = await dockerd.error("Remove", Name="db")
                assert error == _in_use("remove", volume_id, f"process {pid} ({_comm(pid)})")
                assert is_mounted(volplug, "db")
            assert (path / "kept").read_text() == "data"
            await dockerd.ok("Unmount", Name="db", ID="whoever")
            wait_until(lambda: not is_mounted(volplug, "db"), 10, "db is unmounted")
            wait_until_detached(volplug, "db")
            assert not mount_of(volplug, "db").exists()


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
