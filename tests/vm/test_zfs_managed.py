"""Volumes on OpenZFS for containers of a real Docker Engine, by the managed plugin as it is shipped."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.built import built_plugin
from tests.lab.programs import CommandError, checked, find_program
from tests.lab.requirements import PLUGIN, VM
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.guest_engine import GuestEngine, GuestPlugin
from tests.vm.image import openzfs_image

pytestmark = [
    *PLUGIN,  # its time limit is the longer one
    *VM,
    pytest.mark.slow,  # to make the image takes minutes, since it has a compiler compile the module
    pytest.mark.prepare(by=openzfs_image),
    pytest.mark.prepare(by=built_plugin),
    pytest.mark.usefixtures("plugin"),
]

_TIMEOUT_S = 240.0
_PARENT = "tank/volplug"
_DATASET = f"{_PARENT}/db"
_IMAGE = "busybox:local"
_SERIAL = "vol0dddddddddddddddd"
_BY_ID = "/dev/disk/by-id"
_DISK_SIZE_BYTES = 400 << 20
_COUNTS = "while :; do echo line >>/data/log; sleep 0.2; done"


@pytest.fixture(scope="module")
def plugin_disk(zfs_guest: Guest, lab: Path) -> Iterator[str]:
    """A disk with what `make plugin` built."""
    disk = lab / "built"
    with disk.open("xb") as file:
        file.truncate(_DISK_SIZE_BYTES)
    make = [find_program("mkfs.ext4"), "-q", "-F", "-d", str(built_plugin().directory), str(disk)]
    checked(subprocess.run(make, check=False, capture_output=True, text=True))
    zfs_guest.plug(_SERIAL, disk)
    link = f"nvme-QEMU_NVMe_Ctrl_{_SERIAL}"
    wait_until(
        lambda: link in zfs_guest.run(["ls", _BY_ID]).split(), _TIMEOUT_S, "the plugin's disk is there"
    )
    yield f"{_BY_ID}/{link}"
    zfs_guest.unplug(_SERIAL)


@pytest.fixture(scope="module")
def engine(zfs_guest: Guest) -> Iterator[GuestEngine]:
    with GuestEngine(zfs_guest) as engine:
        engine.import_busybox()
        yield engine


@pytest.fixture(scope="module")
def plugin(zfs_guest: Guest, engine: GuestEngine, plugin_disk: str) -> Iterator[GuestPlugin]:
    """The plugin, set as the page of the driver says."""
    zfs_guest.run(["zfs", "create", "-o", "mountpoint=none", _PARENT])
    plugin = GuestPlugin(engine, zfs_guest, plugin_disk)
    plugin.install("VOLPLUG_BACKEND=zfs", f"ZFS_POOL={_PARENT}")
    yield plugin
    plugin.remove()
    assert "zfs" not in zfs_guest.read("/proc/1/mountinfo").split(), "left mounted"
    zfs_guest.run(["zfs", "destroy", "-r", _PARENT])


@pytest.fixture
def volume(engine: GuestEngine) -> str:
    engine.docker("volume", "create", "-d", "volplug", "-o", "size=32MiB", "db")
    return "db:/data"


def _lines(engine: GuestEngine, container: str) -> int:
    return int(engine.docker("exec", container, "wc", "-l", "/data/log").stdout.split()[0])


def _await_more(engine: GuestEngine, container: str) -> None:
    before = _lines(engine, container)
    wait_until(lambda: _lines(engine, container) > before, _TIMEOUT_S, f"{container} writes")


def _datasets(guest: Guest) -> dict[str, str]:
    """The datasets, and whether the host has them mounted."""
    shown = guest.run(["zfs", "list", "-H", "-o", "name,mounted", "-r", _PARENT])
    return dict(line.split() for line in shown.splitlines())


def test_containers_find_their_data_in_a_dataset(zfs_guest: Guest, engine: GuestEngine, volume: str) -> None:
    run = ["run", "--rm", "-v", volume, _IMAGE]
    assert zfs_guest.run(["zfs", "get", "-Hpo", "value", "refquota,mountpoint", _DATASET]).split() == [
        str(32 << 20),
        "legacy",
    ]
    shown = engine.docker(*run, "sh", "-c", "echo data >/data/file; grep /data /proc/self/mountinfo").stdout
    assert f"- zfs {_DATASET} rw" in shown
    assert _datasets(zfs_guest)[_DATASET] == "no"
    assert engine.docker(*run, "cat", "/data/file").stdout == "data\n"
    engine.docker("volume", "rm", "db")
    assert _DATASET not in _datasets(zfs_guest)


def test_a_container_does_not_notice_that_the_plugin_ends_and_starts(
    zfs_guest: Guest, engine: GuestEngine, plugin: GuestPlugin, volume: str
) -> None:
    engine.docker("run", "--detach", "--name=writer", "-v", volume, _IMAGE, "sh", "-c", _COUNTS)
    plugin.stop()
    _await_more(engine, "writer")
    plugin.start()
    _await_more(engine, "writer")
    engine.docker("run", "--rm", "-v", volume, _IMAGE, "test", "-s", "/data/log")
    # A trial release may be under way, since the plugin has started again.
    wait_until(lambda: _datasets(zfs_guest)[_DATASET] == "yes", _TIMEOUT_S, "it is mounted for the writer")
    _await_more(engine, "writer")
    engine.docker("rm", "--force", "writer")
    engine.docker("volume", "rm", "db")
    assert _DATASET not in _datasets(zfs_guest)


def test_what_a_container_holds_that_docker_does_not_count_is_not_deleted(
    zfs_guest: Guest, engine: GuestEngine, volume: str
) -> None:
    engine.docker("run", "--detach", "--name=writer", "-v", volume, _IMAGE, "sh", "-c", _COUNTS)
    mounted = next(line for line in zfs_guest.read("/proc/mounts").splitlines() if f"{_DATASET} " in line)
    bind = f"type=bind,source={mounted.split()[1]}/data,target=/data"
    engine.docker("run", "--detach", "--name=holder", "--mount", bind, _IMAGE, "sh", "-c", _COUNTS)
    engine.docker("rm", "--force", "writer")
    with pytest.raises(CommandError, match="still in use by"):
        engine.docker("volume", "rm", "db")
    _await_more(engine, "holder")
    engine.docker("rm", "--force", "holder")
    engine.docker("volume", "rm", "db")
    assert _DATASET not in _datasets(zfs_guest)
