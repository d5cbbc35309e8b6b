"""podman with volplug as its volume plugin: it has no daemon, and takes status 200 for success."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import leftovers, loops
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.plugin import VolplugProcess
from tests.lab.podman import Podman
from tests.lab.requirements import PODMAN
from tests.lab.waiting import wait_until

pytestmark = PODMAN

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SMALL = "--opt=size=16MiB"


@pytest.fixture(scope="module")
def machine(forks: ForkServer) -> Iterator[Engine]:
    """A machine without a Docker Engine."""
    before = leftovers.snapshot()
    machine = Engine()
    try:
        machine.power_on()
        yield machine
    finally:
        machine.close()
    assert leftovers.settled_difference(before) == []


@pytest.fixture(scope="module")
def shared_podman(machine: Engine) -> Podman:
    podman = Podman(machine)
    podman.import_busybox()
    return podman


@pytest.fixture
def volplug(machine: Engine, forks: ForkServer) -> Iterator[VolplugProcess]:
    with VolplugProcess(forks.machine_of(machine), env={"VOLPLUG_MOUNT_GRACE_S": "1"}) as volplug:
        yield volplug


@pytest.fixture
def podman(shared_podman: Podman, volplug: VolplugProcess, machine: Engine) -> Iterator[Podman]:
    """podman, without containers and volumes before and after each test."""
    yield shared_podman
    shared_podman("rm", "--all", "--force", "--time=0")
    shared_podman("volume", "rm", "--all", "--force")
    wait_until(lambda: not _held(machine), 20, "nothing is mounted or attached")
    assert shared_podman("volume", "ls", "--quiet").stdout == ""


def _held(machine: Engine) -> list[str]:
    mounts = leftovers.mounted_below(machine.directory / "volplug", machine.path("/proc/1/mountinfo"))
    return mounts + [device.name for device in loops.attached_below(machine.directory / "volplug")]


def _create(podman: Podman, name: str, *options: str) -> None:
    podman("volume", "create", "--driver=volplug", _SMALL, *options, name)


def test_what_one_container_writes_the_next_one_reads(podman: Podman, machine: Engine) -> None:
    _create(podman, "db")
    podman.run("db", "echo hello >/data/greeting && sync")
    wait_until(lambda: not _held(machine), 20, "the volume is detached")
    assert podman.run("db", "cat /data/greeting").stdout == "hello\n"
    podman("volume", "rm", "db")
    assert not list(machine.directory.glob("volplug/backends/loop/db.*"))


def test_a_refusal_is_an_error(podman: Podman, volplug: VolplugProcess) -> None:
    misspelt = podman("volume", "create", "--driver=volplug", "--opt=szie=64MiB", "bad", check=False)
    assert misspelt.returncode == 125
    assert "unknown option 'szie' [create \"bad\"]. Did you mean 'size'?" in misspelt.stderr
    assert podman("volume", "ls", "--quiet").stdout == ""

    _create(podman, "db")
    image = volplug.state_dir / "backends" / "loop" / "db.img"
    aside = image.rename(image.with_name("aside"))
    refused = podman.run("db", "echo lost >/data/lost", check=False)
    aside.rename(image)
    assert refused.returncode == 126
    assert f"the image is missing: {image} [" in refused.stderr
    assert podman.run("db", "ls /data").stdout == ""

    podman.start("job", "db")
    in_use = podman("volume", "rm", "db", check=False)
    assert (in_use.returncode, "is being used" in in_use.stderr) == (2, True)
    podman("stop", "job")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_container_continues_through_a_restart_of_volplug(
    podman: Podman, volplug: VolplugProcess, machine: Engine, end: str
) -> None:
    _create(podman, "db")
    podman.start("job", "db")
    records = podman.mounted_at("db") / "records"
    getattr(volplug, end)()
    before = _count(records)
    wait_until(lambda: _count(records) > before, 20, "it continues to write without volplug")
    volplug.start()
    before = _count(records)
    wait_until(lambda: _count(records) > before, 20, "it continues to write")
    podman("rm", "--force", "--time=0", "job")
    wait_until(lambda: not _held(machine), 20, "the volume is detached")
    assert int(podman.run("db", "wc -l </data/records").stdout) >= before


def test_what_was_written_survives_a_power_cut(
    machine: Engine, podman: Podman, volplug: VolplugProcess
) -> None:
    _create(podman, "db")
    podman.run("db", "echo kept >/data/file && sync")
    podman.start("job", "db")
    volplug.kill()
    machine.power_off()
    machine.files[_BOOT_ID] = f"{uuid.uuid4()}\n"
    machine.power_on()
    volplug.start()
    assert podman("ps", "--quiet").stdout == ""
    podman("start", "job")
    assert podman("exec", "job", "cat", "/data/file").stdout == "kept\n"


def test_a_volume_mounted_for_no_container_is_released_after_a_restart_of_volplug(
    machine: Engine, podman: Podman, volplug: VolplugProcess
) -> None:
    """Podman continues to count it, and needs an unmount command."""
    _create(podman, "db")
    podman("volume", "mount", "db")
    (podman.mounted_at("db") / "file").write_text("kept")
    assert _held(machine)
    volplug.restart()
    wait_until(lambda: not _held(machine), 20, "volplug has detected that it is not in use")
    assert "no such file or directory" in podman.run("db", "true", check=False).stderr
    podman("volume", "unmount", "db")
    assert podman.run("db", "cat /data/file").stdout == "kept"


def _count(records: Path) -> int:
    return len(records.read_text().splitlines())
