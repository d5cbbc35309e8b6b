"""The life of the process: starts, kills, stops, second instances, and the right state directory.

Where how volplug starts is the subject, a program of the test starts it; else it is forked (conftest.py).
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab import leftovers
from tests.lab.plugin import SERVE, VolplugProcess
from tests.lab.programs import clean_environment, settled
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import is_attached, is_mounted, mount_of, record_of, wait_until_detached
from tests.store.files import set_version, update_volumes
from volplug.errors import StateUnusable

pytestmark = [pytest.mark.loop, pytest.mark.contract]

SMALL = {"size": "8MiB"}


def _client(machine: LocalMachine) -> Dockerd:
    return Dockerd(machine.directory / "p.sock")


def _second(machine: LocalMachine, socket: str, state_dir: Path) -> tuple[int, str]:
    """Run another volplug to its end and return its exit code and what it said."""
    environment = clean_environment(VOLPLUG_SOCKET=socket, VOLPLUG_STATE_DIR=str(state_dir))
    process = subprocess.Popen(
        [sys.executable, "-m", "volplug", "serve"], env=environment, stderr=subprocess.PIPE
    )
    code = settled(process, 20)
    assert process.stderr is not None
    with process.stderr as stream:
        return code, stream.read().decode()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_what_was_mounted_stays_mounted_and_counted_across_a_restart(
    machine: LocalMachine, volplug: VolplugProcess, end: str
) -> None:
    async with _client(machine) as dockerd:
        await dockerd.ok("Create", Name="db", Opts=SMALL)
        await dockerd.ok("Mount", Name="db", ID="a")
        path = Path((await dockerd.ok("Mount", Name="db", ID="b"))["Mountpoint"])
    with (path / "log").open("w") as log:
        getattr(volplug, end)()
        log.write("written while volplug was away")
        log.flush()
        volplug.start()
    async with _client(machine) as dockerd:
        assert (path / "log").read_text() == "written while volplug was away"
        await dockerd.ok("Unmount", Name="db", ID="a")
        assert is_mounted(volplug, "db")
        await dockerd.ok("Unmount", Name="db", ID="b")
        assert not is_mounted(volplug, "db")
    wait_until_detached(volplug, "db")


async def test_an_unmount_that_was_begun_is_finished_by_the_next_start(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    """The count is taken back first: dockerd never repeats an Unmount."""
    async with _client(machine) as dockerd:
        await dockerd.ok("Create", Name="db", Opts=SMALL)
        await dockerd.ok("Mount", Name="db", ID="a")
    volplug.kill()
    state = volplug.state_dir / "state.sqlite"
    update_volumes(state, "counts = '{}', doubts = '{}', desired = 'detached'")
    volplug.start()
    wait_until(lambda: not is_mounted(volplug, "db"), 10, "db is unmounted")
    wait_until_detached(volplug, "db")


@pytest.mark.parametrize(("state", "left"), [("incomplete", ["db"]), ("deleting", [])])
async def test_half_done_creations_and_deletions_are_finished_by_the_next_start(
    machine: LocalMachine, volplug: VolplugProcess, state: str, left: list[str]
) -> None:
    async with _client(machine) as dockerd:
        await dockerd.ok("Create", Name="db", Opts=SMALL)
    volplug.kill()
    record = json.loads(record_of(volplug, "db").read_text())
    record["volume"]["state"] = state
    record_of(volplug, "db").write_text(json.dumps(record))
    desired = {"incomplete": "present", "deleting": "absent"}[state]
    update_volumes(volplug.state_dir / "state.sqlite", "desired = ?", desired)
    volplug.start()
    async with _client(machine) as dockerd:
        wait_until(lambda: record_of(volplug, "db").exists() == bool(left), 10, "it is finished")
        if left:
            await dockerd.ok("Mount", Name="db", ID="a")
            await dockerd.ok("Unmount", Name="db", ID="a")
            wait_until_detached(volplug, "db")
        assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == left


async def test_sigterm_under_load_ends_cleanly_and_loses_nothing(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    names = [f"v{number}" for number in range(12)]

    async def use(name: str) -> None:
        """Create and mount until the socket goes; a call without an answer is fine, an error is not."""
        async with _client(machine) as client:
            for verb in ("Create", "Mount"):
                body = json.dumps({"Name": name, "Opts": SMALL, "ID": "a"}).encode()
                reply = await client.raw(f"/VolumeDriver.{verb}", body)
                if reply is None:
                    return
                assert not reply.json.get("Err"), reply
                if verb == "Mount":
                    (mount_of(volplug, name) / "data" / "acknowledged").write_text(name)

    async with _client(machine) as dockerd:
        await dockerd.ok("Create", Name="first", Opts=SMALL)
        load = [asyncio.create_task(use(name)) for name in names]
        await dockerd.ok("Mount", Name="first", ID="a")
    assert await asyncio.to_thread(volplug.stop) == 0
    results = await asyncio.gather(*load, return_exceptions=True)
    assert all(
        result is None or isinstance(result, ConnectionError | FileNotFoundError) for result in results
    )
    assert not (machine.directory / "p.sock").exists()
    volplug.start()
    async with _client(machine) as dockerd:
        listed = {each["Name"]: each for each in (await dockerd.ok("List"))["Volumes"]}
        for name in [*names, "first"]:
            if name in listed:
                await dockerd.ok("Mount", Name=name, ID="b")
                await dockerd.ok("Unmount", Name=name, ID="a")
                await dockerd.ok("Unmount", Name=name, ID="b")
                wait_until(lambda name=name: not is_mounted(volplug, name), 10, f"{name} is unmounted")  # type: ignore[misc]  # bound now
                wait_until_detached(volplug, name)
    assert leftovers.mounted_below(volplug.state_dir) == []


async def test_a_second_instance_says_who_has_the_state_directory(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    code, said = _second(machine, str(machine.directory / "other.sock"), volplug.state_dir)
    assert (code, said) == (
        1,
        f"volplug: the state directory {volplug.state_dir} is in use by process {volplug.pid}. "
        "Stop that process, or give this one another VOLPLUG_STATE_DIR.\n",
    )
    assert not (machine.directory / "other.sock").exists()
    async with _client(machine) as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}


async def test_a_second_instance_does_not_take_over_a_served_socket(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    socket = machine.directory / "p.sock"
    code, said = _second(machine, str(socket), machine.directory / "other")
    assert (code, said) == (
        1,
        f"volplug: another process serves {socket}. Stop it, or set another VOLPLUG_SOCKET.\n",
    )
    async with _client(machine) as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}


async def test_a_dead_socket_is_replaced(machine: LocalMachine, volplug: VolplugProcess) -> None:
    volplug.kill()
    assert (machine.directory / "p.sock").exists()
    volplug.start()
    async with _client(machine) as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}


async def test_an_empty_directory_in_place_of_the_state_directory_makes_docker_forget_nothing(
    machine: LocalMachine,
) -> None:
    marker = machine.directory / "marker"
    with VolplugProcess(machine, env={"VOLPLUG_STATE_MARKER": str(marker)}) as volplug:
        async with _client(machine) as dockerd:
            await dockerd.ok("Create", Name="db", Opts=SMALL)
        volplug.stop()
        kept = volplug.state_dir.rename(machine.directory / "kept")
        volplug.start()
        async with _client(machine) as dockerd:
            for body in (b'{"Name":"db"}', b'{"Name":"nope"}'):
                assert await dockerd.raw("/VolumeDriver.Get", body) is None
            why = StateUnusable(
                f"state directory {volplug.state_dir} is not the one used before: it has no id, "
                f"that one had {marker.read_text()[:8]}",
                f"Is its disk not mounted, or a setting reverted? To use it all the same, remove {marker}",
            )
            for verb in ("Create", "Mount", "Remove", "List"):
                assert await dockerd.error(verb, Name="db", ID="a") == str(why)  # shortened if it is long
            assert (await dockerd.call("Capabilities")).status == 200
        volplug.stop()
        assert not (volplug.state_dir / "backends").exists()
        shutil.rmtree(volplug.state_dir)
        kept.rename(volplug.state_dir)
        volplug.start()
        async with _client(machine) as dockerd:
            await dockerd.ok("Remove", Name="db")


async def test_a_newer_state_file_is_left_untouched_and_nothing_is_served(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    volplug.stop()
    file = volplug.state_dir / "state.sqlite"
    set_version(file, 99)
    before = file.read_bytes()
    volplug.start()
    async with _client(machine) as dockerd:
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is None
        assert await dockerd.error("Create", Name="db") == (
            f"{file} is of version 99, this volplug reads up to version 3. Install the newer volplug again."
        )
    assert file.read_bytes() == before


async def test_a_damaged_state_file_is_set_aside_and_mounts_are_kept(
    machine: LocalMachine, volplug: VolplugProcess
) -> None:
    async with _client(machine) as dockerd:
        await dockerd.ok("Create", Name="db", Opts=SMALL)
        await dockerd.ok("Mount", Name="db", ID="a")
    volplug.kill()
    for side in volplug.state_dir.glob("state.sqlite-*"):
        side.unlink()
    (volplug.state_dir / "state.sqlite").write_bytes(b"not a database" * 1000)
    volplug.start()
    async with _client(machine) as dockerd:
        await dockerd.ok("List")
        (kept,) = volplug.state_dir.glob("state.sqlite.damaged-*")
        assert kept.read_bytes() == b"not a database" * 1000
        assert is_mounted(volplug, "db")
        await dockerd.ok("Mount", Name="db", ID="b")
        await dockerd.ok("Unmount", Name="db", ID="b")
        wait_until(lambda: not is_mounted(volplug, "db"), 10, "db is unmounted")
    wait_until_detached(volplug, "db")


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed")
async def test_a_socket_from_systemd_is_served_and_left_in_place(machine: LocalMachine) -> None:
    path = machine.directory / "p.sock"
    process = _at_a_given_socket(machine, *SERVE)
    try:
        async with _client(machine) as dockerd:
            await dockerd.ok("Create", Name="db", Opts=SMALL)
            await dockerd.ok("Remove", Name="db")
        process.send_signal(signal.SIGTERM)
        assert settled(process, 15) == 0
        assert path.exists()
    finally:
        process.kill()


_IMPATIENT = "from volplug import __main__, app; app._TRY_AGAIN_S = 0.3; raise SystemExit(__main__.main())"


@pytest.mark.parametrize("fault", ["flag", "setting", "lock", "state", "bug", "late bug"])
async def test_what_keeps_it_from_serving_is_answered_at_a_given_socket_and_the_next_start_tries_again(
    machine: LocalMachine, fault: str
) -> None:
    state_dir = machine.directory / "state"
    state_dir.mkdir(mode=0o700)
    with (state_dir / "lock").open("w") as lock:
        if fault == "lock":
            fcntl.flock(lock, fcntl.LOCK_EX)
        if fault == "state":
            set_version(state_dir / "state.sqlite", 99)
        (machine.directory / "nul.toml").write_text('mount_root = "/x\\u0000"')
        (machine.directory / "deep.toml").write_text(f"x = {'[' * 5000}")
        flags = {"flag": "--log-levl=debug", "setting": "--default-fs=ntfs"}
        flags |= {
            "bug": f"--config={machine.directory}/deep.toml",
            "late bug": f"--config={machine.directory}/nul.toml",
        }
        flag = [flags[fault]] if fault in flags else []
        process = _at_a_given_socket(machine, sys.executable, "-c", _IMPATIENT, "serve", *flag)
        try:
            async with _client(machine) as dockerd:
                said = await dockerd.error("Create", Name="db")
                assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is None
            assert settled(process, 15) == 1
        finally:
            process.kill()
    reasons = {
        "flag": "unknown flag --log-levl. Did you mean --log-level? Allowed are --answer-s, ",
        "bug": "internal error: RecursionError(",
        "late bug": "internal error: ValueError('embedded null byte'). See the log of volplug.",
        "setting": "flag --default-fs: 'ntfs' is not allowed. Write one of btrfs, ext4, xfs.",
        "lock": f"the state directory {state_dir} is in use by process unknown.",
        "state": f"{state_dir / 'state.sqlite'} is of version 99, this volplug reads up to version 3.",
    }
    assert said.startswith(reasons[fault])
    log = (machine.directory / "log").read_text()
    assert f'level=error event="serving nothing" error="{said}"' in log
    assert ("Traceback" in log) == ("bug" in fault)
    assert "event=ready" not in log


def _at_a_given_socket(machine: LocalMachine, *argv: str) -> subprocess.Popen[bytes]:
    """Start a program as systemd does with a socket unit, at the first connection."""
    path = machine.directory / "p.sock"
    keep = [f"--setenv={name}" for name in ("PYTHONPATH", "PATH") if name in os.environ]
    state_dir = f"--setenv=VOLPLUG_STATE_DIR={machine.directory / 'state'}"
    process = machine.spawn(["systemd-socket-activate", "--listen", str(path), *keep, state_dir, *argv])
    wait_until(lambda: _listens(path), 10, "systemd-socket-activate listens")
    return process


async def test_a_process_that_may_not_mount_says_so_at_once(machine: LocalMachine) -> None:
    machine.directory.chmod(0o777)
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *SERVE]
    process = machine.spawn(argv, {"VOLPLUG_STATE_DIR": str(machine.directory / "state")})
    assert settled(process, 15) == 1
    said = (machine.directory / "log").read_text()
    assert said == "volplug: this process, of user 65534, may not mount anything. Run volplug as root.\n"
    assert not (machine.directory / "state").exists()


async def test_volumes_attached_at_the_kill_are_detached_when_nobody_asks_for_them_again(
    machine: LocalMachine,
) -> None:
    """Killed while the volume lingers: the durable desire to detach is what the next start goes on with."""
    with VolplugProcess(machine, env={"VOLPLUG_LINGER_S": "3600"}) as volplug:
        async with _client(machine) as dockerd:
            await dockerd.ok("Create", Name="db", Opts=SMALL)
            await dockerd.ok("Mount", Name="db", ID="a")
            await dockerd.ok("Unmount", Name="db", ID="a")
            assert is_attached(volplug, "db")
        volplug.kill()
        volplug.start()
        wait_until_detached(volplug, "db")
        async with _client(machine) as dockerd:
            await dockerd.ok("Mount", Name="db", ID="b")
            await dockerd.ok("Unmount", Name="db", ID="b")
            assert is_attached(volplug, "db")
        assert volplug.stop() == 0
        assert not is_attached(volplug, "db"), "SIGTERM ends the linger by detaching"


async def test_as_the_first_process_of_a_container_it_reaps_orphans_and_obeys_sigterm(
    machine: LocalMachine,
) -> None:
    argv = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *SERVE)
    with VolplugProcess(machine, argv=argv) as volplug:
        (first,) = _children(volplug.pid)
        orphan = "sleep 0 & echo $!"
        command = [
            "nsenter",
            "--target",
            str(first),
            "--pid",
            "--mount",
            "sh",
            "-c",
            f"({orphan}) > /dev/null",
        ]
        subprocess.run(command, check=True)
        wait_until(lambda: not _children(first), 20, "the orphan is reaped")
        async with _client(machine) as dockerd:
            await dockerd.ok("Create", Name="db", Opts=SMALL)
            await dockerd.ok("Mount", Name="db", ID="a")
            await dockerd.ok("Unmount", Name="db", ID="a")
            await dockerd.ok("Remove", Name="db")
        os.kill(first, signal.SIGTERM)
        wait_until(lambda: not volplug.running, 15, "it has ended")
        assert not (machine.directory / "p.sock").exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _listens(path: Path) -> bool:
    """Tell whether somebody listens; the file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(path)) == 0
