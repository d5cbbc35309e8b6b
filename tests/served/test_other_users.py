"""Other users of this host: they reach neither volumes nor state nor the socket."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab import leftovers, loops
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine, local_machine

pytestmark = pytest.mark.loop

_NOBODY = 65534
_SMALL = {"size": "8MiB"}


def _as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, user=_NOBODY, group=_NOBODY, extra_groups=[]
    )


async def test_another_user_reaches_no_volume_no_state_and_no_socket(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    machine.directory.chmod(0o755)  # nothing above closes the way
    await dockerd.ok("Create", Name="db", Opts=_SMALL)
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    (path / "secret").write_text("of the container")
    (path / "secret").chmod(0o644)
    program = path / "id"
    shutil.copy(shutil.which("id") or "/usr/bin/id", program)
    program.chmod(0o4755)
    for command in (
        ("cat", str(path / "secret")),
        ("sh", "-c", 'exec "$0" -u', str(program)),
        ("ls", str(volplug.state_dir)),
        ("ls", str(volplug.mount_root)),
        ("cat", str(volplug.state_dir / "state.sqlite")),
    ):
        done = _as_nobody(*command)
        assert "Permission denied" in done.stderr, command
        assert done.stdout == ""
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    assert "PermissionError" in _as_nobody("python3", "-c", connect, str(machine.directory / "p.sock")).stderr
    for place in (volplug.state_dir, *volplug.state_dir.rglob("*")):
        if not place.is_relative_to(volplug.mount_root / "db"):
            assert place.stat().st_mode & 0o077 == 0, place
    await dockerd.ok("Unmount", Name="db", ID="a")


async def test_a_directory_that_volplug_has_marked_is_closed_again(machine: LocalMachine) -> None:
    with VolplugProcess(machine) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            await dockerd.ok("List")  # by then the directory is marked
            volplug.stop()
            await dockerd.hang_up()
            for place in (volplug.state_dir, volplug.mount_root):
                place.chmod(0o755)
            volplug.start()
            await dockerd.ok("List")
        for place in (volplug.state_dir, volplug.mount_root):
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert (volplug.state_dir / "state.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_state_directory_that_is_open_to_others_is_refused_and_left_as_it_is(
    machine: LocalMachine, mode: int
) -> None:
    place, victim = machine.directory / "given", machine.directory / "victim"
    victim.write_text("kept")
    place.mkdir()
    (place / "lock").symlink_to(victim)  # as a user who may write there makes it
    place.chmod(mode)
    with pytest.raises(RuntimeError) as refused:
        VolplugProcess(machine, env={"VOLPLUG_STATE_DIR": str(place)}).start()
    reason = f"the state directory {place} is open to other users of this host (mode {mode:04o})"
    assert f"volplug: {reason}. chmod 0700 {place}." in str(refused.value)
    assert stat.S_IMODE(place.stat().st_mode) == mode
    assert victim.read_text() == "kept"
    assert os.listdir(place) == ["lock"]


async def test_a_mount_root_that_was_open_before_volplug_came_is_refused_and_left_as_it_is(
    machine: LocalMachine,
) -> None:
    place = machine.directory / "given"
    place.mkdir()
    place.chmod(0o755)
    with VolplugProcess(machine, env={"VOLPLUG_MOUNT_ROOT": str(place)}):
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            assert await dockerd.error("Create", Name="db") == (
                f"the mount root {place} is open to other users of this host (mode 0755). chmod 0700 {place}."
            )
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


@pytest.mark.parametrize("is_beside_the_marker", [True, False])
async def test_an_open_mount_root_of_an_earlier_version_is_closed_and_its_volumes_can_be_unmounted(
    machine: LocalMachine, is_beside_the_marker: bool
) -> None:
    """Beside the marker it is that of the managed plugin."""
    place = machine.directory / "mnt" / "volumes"
    settings = {"VOLPLUG_MOUNT_ROOT": str(place)}
    if is_beside_the_marker:
        settings["VOLPLUG_STATE_MARKER"] = str(place.with_name("state-id"))
    with VolplugProcess(machine, env=settings) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            for name in ("db", "idle"):
                await dockerd.ok("Create", Name=name, Opts=_SMALL)
            await dockerd.ok("Mount", Name="db", ID="a")
            volplug.kill()
            await dockerd.hang_up()
            place.chmod(0o755)
            if is_beside_the_marker:
                (place / "left").mkdir()  # what lies there need not be in the ledger
            volplug.start()
            await dockerd.ok("Unmount", Name="db", ID="a")
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            wait_until(lambda: not loops.attached_below(volplug.state_dir), 20, "it is detached")
            assert leftovers.mounted_below(machine.directory) == []


@pytest.mark.parametrize("what", ["file", "link", "directory"])
def test_what_is_no_socket_is_not_replaced_by_one(machine: LocalMachine, what: str) -> None:
    place, other = machine.directory / "p.sock", machine.directory / "other"
    other.write_text("of somebody else")
    if what == "file":
        place.write_text("kept")
    elif what == "link":
        place.symlink_to(other)
    else:
        place.mkdir()
    before = os.lstat(place)
    with pytest.raises(RuntimeError, match=f"{place} is not a socket. Move it away, or set another"):
        VolplugProcess(machine).start()
    assert os.lstat(place).st_ino == before.st_ino
    assert other.read_text() == "of somebody else"


def test_a_relative_path_is_one_below_the_current_directory() -> None:
    with local_machine() as machine:
        state = machine.directory / "state" / "state.sqlite"
        with VolplugProcess(machine, state_dir=Path(os.path.relpath(state.parent))):
            wait_until(state.exists, 10, "the state is where it was meant to be")
