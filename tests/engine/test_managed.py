"""The managed plugin is killed, disabled, reconfigured and removed under running containers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.serving import unix_client
from tests.dockerd import Dockerd
from tests.engine.pairs import MANAGED
from tests.engine.use import (
    create,
    inspect,
    mounted,
    refusal,
    run,
    start,
    volumes,
    wait_until_released,
)
from tests.lab import checker, loops
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug
from tests.lab.programs import checked
from tests.lab.waiting import wait_until
from tests.pages import ROOT

pytestmark = MANAGED

_EXIT_TIMEOUT_S = 8.0  # Docker sends SIGKILL after 10 s


@pytest.fixture
def plugin(empty_engine: Engine, shared_volplug: ManagedVolplug) -> ManagedVolplug:
    return shared_volplug


@contextmanager
def _restarted_with(
    plugin: ManagedVolplug, settings: Mapping[str, str], former: Mapping[str, str]
) -> Iterator[None]:
    """Enable the plugin again with other settings for the block, and with the former ones after it."""
    plugin.stop()
    plugin.start(settings)
    try:
        yield
    finally:
        plugin.stop()
        plugin.start(former)


def test_after_disable_a_container_holds_a_device_that_only_the_next_mount_shows(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    """Docker unmounts what the plugin had mounted; the container's own mount stays."""
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    device = loops.attached_below(plugin.state_dir)
    plugin.stop()
    records.await_progress()
    plugin.start()
    assert mounted(empty_engine, plugin) == []
    start(empty_engine, "second", "-v", "db:/data")
    assert len(mounted(empty_engine, plugin)) == 1
    assert [each.name for each in loops.attached_below(plugin.state_dir)] == [each.name for each in device]
    records.await_progress()
    empty_engine.docker("rm", "-f", "second")
    records.await_progress()
    records.stop()
    wait_until_released(empty_engine, plugin)
    records.verify()
    empty_engine.docker("volume", "rm", "db")


def test_a_container_that_ends_while_the_plugin_is_disabled_does_not_keep_its_volume(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/data")
    plugin.stop()
    empty_engine.docker("rm", "-f", "user")
    plugin.start()
    wait_until_released(empty_engine, plugin)
    empty_engine.docker("volume", "rm", "db")


def test_the_first_process_reaps_orphans(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    first = plugin.pid
    inside = ["nsenter", f"--target={first}", "--mount", "--pid"]
    subprocess.run([*inside, "sh", "-c", "sleep 1000 >/dev/null 2>&1 &"], check=True)
    (orphan,) = _children(first)
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not _children(first), 30, "the orphan is reaped")


async def test_the_control_api_answers_on_the_host_with_paths_of_the_host(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/data")
    async with unix_client(plugin.state_dir / "control.sock") as api:
        shown = await api.ok("/v1/volumes/db")
        assert shown["mountpoint"] == f"DOCKER_ROOT/plugins/{plugin.id}/propagated-mount/volumes/db/data"
        empty_engine.docker("rm", "-f", "user")
        wait_until_released(empty_engine, plugin)
        assert (await api.done("DELETE", "/v1/volumes/db"))["failure"] is None
    assert volumes(empty_engine) == []


def test_doctor_examines_the_plugin_from_the_host_and_in_its_container(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    """The container has none of the packages of the command line."""
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/data")
    on_host = checked(_doctor(empty_engine, plugin)).stdout
    argv = ["nsenter", f"--target={plugin.pid}", "--all", "/opt/volplug/bin/volplug", "doctor"]
    in_container = checked(subprocess.run(argv, capture_output=True, text=True, check=False)).stdout
    for shown, root in ((on_host, plugin.mount_root), (in_container, "/mnt/volplug/volumes")):
        lines = shown.splitlines()
        assert [line for line in lines if not line.startswith("green ")] == [lines[-1]]
        assert f"{root}: 1 mounted, each known to volplug" in shown
        assert " runs and is ready" in shown
    assert f"{plugin.mount_root}: the engine sees what is mounted there" in on_host
    assert "volplug counts the mounts that Docker has" in on_host
    empty_engine.docker("rm", "-f", "user")
    wait_until_released(empty_engine, plugin)
    empty_engine.docker("volume", "rm", "db")


def test_doctor_checks_the_settings_of_a_disabled_plugin(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    plugin.stop()
    plugin.set("VOLPLUG_DEFAULT_SIZE=many")
    shown = _doctor(empty_engine, plugin)
    plugin.set("VOLPLUG_DEFAULT_SIZE=")
    plugin.start()
    assert shown.returncode == 1, shown
    (mistake,) = [line for line in shown.stdout.splitlines() if " settings " in line]
    assert mistake.startswith("red ")
    assert "variable VOLPLUG_DEFAULT_SIZE" in mistake


def _doctor(engine: Engine, plugin: ManagedVolplug) -> subprocess.CompletedProcess[str]:
    state_dir = f"--state-dir={plugin.host_dir / 'volplug'}"
    command = [sys.executable, "-m", "volplug", "doctor", state_dir]
    return engine.run(["env", f"PYTHONPATH={ROOT}", *command])


def test_settings_take_effect_at_the_next_start(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    create(empty_engine, "old", "--opt=size=64MiB")
    records = checker.start(empty_engine, "old")
    (plugin.state_dir / "config.toml").write_text('[profiles.tiny]\nsize = "24MiB"\n')
    settings = {"VOLPLUG_DEFAULT_SIZE": "32MiB", "VOLPLUG_CONFIG": "/var/lib/volplug/config.toml"}
    with _restarted_with(plugin, settings, dict.fromkeys(settings, "")):
        for name, option in (("new", "backend=loop"), ("tiny", "profile=tiny")):
            empty_engine.docker("volume", "create", "--driver=volplug", f"--opt={option}", name)
        shown = {name: inspect(empty_engine, "volume", name)["Status"] for name in volumes(empty_engine)}
        sizes = {name: status["size"] for name, status in shown.items()}
        assert sizes == {"old": "64MiB", "new": "32MiB", "tiny": "24MiB"}
        records.await_progress()
        records.stop()
        empty_engine.docker("volume", "rm", "old", "new", "tiny")


def test_a_local_volume_that_hides_one_of_volplug_is_removed_alone(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    """As docs/errors.md describes; Docker has forgotten the volume, as another host does not know it."""
    create(empty_engine, "db")
    run(empty_engine, "-v", "db:/data", script="echo kept >/data/file")
    records = plugin.state_dir / "backends" / "loop"
    aside = [path.rename(records.with_name(path.name)) for path in records.glob("db.*")]
    empty_engine.docker("volume", "rm", "--force", "db")
    run(empty_engine, "-v", "db:/data", script="echo lost >/data/file")
    for path in aside:
        path.rename(records / path.name)
    assert inspect(empty_engine, "volume", "db")["Driver"] == "local"
    assert "driver 'local' already has volume" in refusal(
        empty_engine, "volume", "create", "--driver=volplug", "db"
    )
    create(empty_engine, "other")
    places = ("-v", "db:/from:ro", "-v", "other:/to")
    run(empty_engine, *places, script="cp -a /from/. /to")
    empty_engine.docker("volume", "rm", "db")
    for name, text in (("db", "kept\n"), ("other", "lost\n")):
        assert run(empty_engine, "-v", f"{name}:/data", script="cat /data/file") == text
    empty_engine.docker("volume", "rm", "db", "other")


async def test_an_invalid_setting_is_reported_by_every_answer(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db", "--label=team=web")
    run(empty_engine, "-v", "db:/data", script="echo kept >/data/file")
    reason = "variable VOLPLUG_DEFAULT_FS: 'ntfs' is not allowed. Write one of btrfs, ext4, xfs."
    with _restarted_with(plugin, {"VOLPLUG_DEFAULT_FS": "ntfs"}, {"VOLPLUG_DEFAULT_FS": ""}):
        # Not with the docker command, which sends Get before and waits in vain for 15 s.
        async with Dockerd(empty_engine.path(plugin.socket)) as client:
            assert await client.error("Create", Name="new") == reason
        logged = rf"level=error event=\"serving nothing\" error=\"{reason}\""
        assert f'level=error msg="{logged}"' in plugin.log_text
    assert inspect(empty_engine, "volume", "db")["Labels"] == {"team": "web"}
    assert run(empty_engine, "-v", "db:/data", script="cat /data/file") == "kept\n"
    empty_engine.docker("volume", "rm", "db")


async def test_another_state_directory_makes_docker_forget_nothing(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db")
    run(empty_engine, "-v", "db:/data", script="echo kept >/data/file")
    other = empty_engine.directory / "other"
    other.mkdir()
    with _restarted_with(plugin, {"state.source": str(other)}, {"state.source": str(plugin.host_dir)}):
        async with Dockerd(empty_engine.path(plugin.socket)) as client:
            error = await client.error("Create", Name="new")
        assert error.startswith("state directory state.source/volplug is not the one used before")
        marker = f"DOCKER_ROOT/plugins/{plugin.id}/propagated-mount/state-id"
        assert error.endswith(f"To use it all the same, remove {marker}.")
        assert (plugin.plugin_dir / "propagated-mount" / "state-id").exists()
    assert run(empty_engine, "-v", "db:/data", script="cat /data/file") == "kept\n"
    empty_engine.docker("volume", "rm", "db")


def test_volumes_outlive_the_plugin(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    devices = _devices()
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    plugin.remove()
    left = _devices()
    records.await_progress()
    plugin.install().start()
    assert left == devices
    records.await_progress()
    assert volumes(empty_engine) == ["db"]
    records.verify()
    records.stop()
    wait_until_released(empty_engine, plugin)
    records.verify()
    empty_engine.docker("volume", "rm", "db")


# Docker waits for 10 s when it disables a plugin whose process ended before, so tests that end one come last.


def _kill(plugin: ManagedVolplug) -> None:
    plugin.kill()


def _kill_repeatedly(plugin: ManagedVolplug) -> None:
    for _ in range(4):
        plugin.kill()
        plugin.start()


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(ManagedVolplug.stop, id="disable", marks=pytest.mark.slow),
        pytest.param(_kill, id="kill"),
        pytest.param(_kill_repeatedly, id="crash-loop", marks=pytest.mark.slow),
    ],
)
def test_a_container_continues_without_the_plugin_and_with_it_again(
    empty_engine: Engine, plugin: ManagedVolplug, end: Callable[[ManagedVolplug], None]
) -> None:
    create(empty_engine, "db", "--opt=size=64MiB")
    made = inspect(empty_engine, "volume", "db")["Status"]["id"]
    records = checker.start(empty_engine, "db")
    end(plugin)
    records.await_progress()
    plugin.start()
    records.await_progress()
    records.verify()
    assert "volume is in use" in refusal(empty_engine, "volume", "rm", "db")
    records.await_progress()
    records.stop()
    wait_until_released(empty_engine, plugin)
    records.verify()
    assert inspect(empty_engine, "volume", "db")["Status"]["id"] == made
    empty_engine.docker("volume", "rm", "db")


def test_on_sigterm_the_first_process_ends_in_time_and_unmounts_nothing(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    before = _mount_lines(empty_engine, plugin)
    pid = plugin.pid
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in plugin.pids(), _EXIT_TIMEOUT_S, "it has ended")
    assert _mount_lines(empty_engine, plugin) == before
    plugin.start()
    assert plugin.pid != pid
    records.await_progress()
    records.stop()
    wait_until_released(empty_engine, plugin)
    empty_engine.docker("volume", "rm", "db")


def _mount_lines(engine: Engine, plugin: ManagedVolplug) -> list[str]:
    """The lines of the engine's mountinfo about volumes: another number is another mount."""
    root = f" {plugin.mount_root}/"
    lines = engine.path("/proc/1/mountinfo").read_text().splitlines()
    found = [line for line in lines if root in line]
    assert found
    return found


def _devices() -> list[str]:
    """The content of this machine's /dev, without loop devices, which change."""
    return sorted(entry.name for entry in Path("/dev").iterdir() if not entry.name.startswith("loop"))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
