"""The life of volumes on OpenZFS itself: mounted by the kernel, encrypted, in use by another namespace."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.operator import Operator
from tests.lab.requirements import VM
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.guest_volplug import GuestVolplug, RefusedError
from tests.vm.image import openzfs_image

pytestmark = [
    *VM,
    pytest.mark.slow,  # to make the image takes minutes, since it has a compiler compile the module
    pytest.mark.prepare(by=openzfs_image),
]

_TIMEOUT_S = 240.0
_PARENT = "tank/volplug"
_CONFIG = f'[backends.tank]\ndriver = "zfs"\npool = "{_PARENT}"\nkey_file = "/run/zfs.key"\n'
_LOG = "/run/container"
_CONTAINER = ["unshare", "--mount", "--propagation=private", "sh", "-c"]


@pytest.fixture
def volplug(zfs_guest: Guest) -> Iterator[GuestVolplug]:
    zfs_guest.run(["zfs", "create", "-o", "mountpoint=none", _PARENT])
    zfs_guest.run(["tee", "/run/zfs.key"], input_bytes=b"0123456789abcdef" * 4)
    volplug = GuestVolplug(zfs_guest, {})
    volplug.start(_CONFIG)
    try:
        volplug.await_ready()
        yield volplug
    finally:
        volplug.show_log()
        volplug.stop()
    assert "zfs" not in zfs_guest.read("/proc/1/mountinfo").split(), "left mounted"
    zfs_guest.run(["zfs", "destroy", "-r", _PARENT])


def mounted(volplug: GuestVolplug, mount_id: str = "a") -> str:
    return str(volplug.call("Mount", Name="db", ID=mount_id)["Mountpoint"])


def status(volplug: GuestVolplug) -> dict[str, object]:
    found = volplug.call("Get", Name="db")["Volume"]["Status"]
    assert isinstance(found, dict)
    return found


def await_available(volplug: GuestVolplug) -> None:
    wait_until(lambda: status(volplug)["state"] == "available", _TIMEOUT_S, "it is released")


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_volumes_life(zfs_guest: Guest, volplug: GuestVolplug, is_encrypted: bool) -> None:
    options = {"size": "32MiB", "profile": "postgres", "sync": "always", "mount-opts": "nosuid"}
    if is_encrypted:
        options["encrypted"] = "true"
    volplug.call("Create", Name="db", Opts=options)
    asked = "recordsize,sync,refquota,mountpoint,canmount,encryption"
    shown = zfs_guest.run(["zfs", "get", "-Hp", "-o", "value", asked, f"{_PARENT}/db"]).split()
    cipher = "aes-256-gcm" if is_encrypted else "off"
    assert shown == ["8192", "always", str(32 << 20), "legacy", "noauto", cipher]
    path = mounted(volplug)
    lines = zfs_guest.read("/proc/1/mountinfo").splitlines()
    assert ["nosuid" in line for line in lines if f"{_PARENT}/db" in line] == [True]
    zfs_guest.run(["sh", "-c", f"echo data > {path}/file"])
    assert (status(volplug)["state"], status(volplug)["dataset"]) == ("in-use", f"{_PARENT}/db")
    volplug.call("Unmount", Name="db", ID="a")
    await_available(volplug)
    if is_encrypted:
        zfs_guest.run(["zfs", "unload-key", f"{_PARENT}/db"])
    assert zfs_guest.read(f"{mounted(volplug)}/file") == "data\n"
    volplug.call("Unmount", Name="db", ID="a")
    volplug.call("Remove", Name="db")
    assert f"{_PARENT}/db" not in zfs_guest.run(["zfs", "list", "-H", "-o", "name"]).split()


def test_a_container_keeps_its_volume_and_another_one_may_use_it_too(
    zfs_guest: Guest, volplug: GuestVolplug
) -> None:
    volplug.call("Create", Name="db", Opts={"size": "32MiB"})
    bind = f"mount --bind {mounted(volplug)} /srv && echo holding; exec sleep infinity"
    pid = zfs_guest.spawn([*_CONTAINER, bind], log=_LOG)
    wait_until(lambda: "holding" in zfs_guest.read(_LOG), _TIMEOUT_S, "the container has it")
    with pytest.raises(RefusedError, match="still in use by process"):
        volplug.call("Unmount", Name="db", ID="a")
    with pytest.raises(RefusedError, match="still in use by"):
        volplug.call("Remove", Name="db")
    zfs_guest.run(["sh", "-c", f"echo data > {mounted(volplug, 'b')}/file"])
    zfs_guest.run(["sh", "-c", f"kill {pid}"])
    wait_until(lambda: not zfs_guest.is_running(pid), _TIMEOUT_S, "the container has ended")
    volplug.call("Unmount", Name="db", ID="b")
    await_available(volplug)
    volplug.call("Remove", Name="db")


def test_a_copy_that_was_sent_becomes_a_volume_by_the_documented_commands(
    zfs_guest: Guest, volplug: GuestVolplug, tmp_path: Path
) -> None:
    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(list(argv), 0, zfs_guest.run(argv), "")

    operator = Operator(run, {"/backup": "/run"}, tmp_path)
    volplug.call("Create", Name="db", Opts={"size": "32MiB"})
    zfs_guest.run(["sh", "-c", f"echo data > {mounted(volplug)}/file"])
    operator.does("docs/drivers/zfs.md", "Backups", 0)
    volplug.call("Unmount", Name="db", ID="a")
    await_available(volplug)
    with pytest.raises(RefusedError, match=f"{_PARENT}/db@monday"):
        volplug.call("Remove", Name="db")
    operator.does("docs/drivers/zfs.md", "Backups", 1)
    path = volplug.call("Mount", Name="db2", ID="a")["Mountpoint"]
    assert zfs_guest.read(f"{path}/file") == "data\n"
    volplug.call("Unmount", Name="db2", ID="a")
