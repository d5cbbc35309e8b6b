"""The managed plugin is killed, disabled, set anew and removed under running containers."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.installations import MANAGED
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
from tests.lab.waiting import wait_until

pytestmark = MANAGED

_EXIT_TIMEOUT_S = 8.0  # Docker sends SIGKILL after 10 s


@pytest.fixture
def plugin(empty_engine: Engine, shared_volplug: ManagedVolplug) -> ManagedVolplug:
    return shared_volplug


def _kill(plugin: ManagedVolplug) -> None:
    plugin.kill()


def _kill_again_and_again(plugin: ManagedVolplug) -> None:
    for _ in range(4):
        plugin.kill()
        plugin.start()


@pytest.mark.parametrize(
    "end", [_kill, _kill_again_and_again, ManagedVolplug.stop], ids=["kill", "crash-loop", "disable"]
)
def test_a_container_goes_on_without_the_plugin_and_with_it_again(
    empty_engine: Engine, plugin: ManagedVolplug, end: Callable[[ManagedVolplug], None]
) -> None:
    create(empty_engine, "db", "--opt=size=64MiB")
    made = inspect(empty_engine, "volume", "db")["Status"]["id"]
    records = checker.start(empty_engine, "db")
    end(plugin)
    records.goes_on()
    plugin.start()
    records.goes_on()
    records.verify()
    assert "volume is in use" in refusal(empty_engine, "volume", "rm", "db")
    records.goes_on()
    records.stop()
    wait_until_released(empty_engine, plugin)
    records.verify()
    assert inspect(empty_engine, "volume", "db")["Status"]["id"] == made
    empty_engine.docker("volume", "rm", "db")


def test_after_disable_a_container_holds_what_only_the_next_mount_shows(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    """Docker unmounts what the plugin had mounted; the container's own mount stays."""
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    device = loops.attached_below(plugin.state_dir)
    plugin.restart()
    assert mounted(empty_engine, plugin) == []
    start(empty_engine, "second", "-v", "db:/data")
    assert len(mounted(empty_engine, plugin)) == 1
    assert [each.name for each in loops.attached_below(plugin.state_dir)] == [each.name for each in device]
    records.goes_on()
    empty_engine.docker("rm", "-f", "second")
    records.goes_on()
    records.stop()
    wait_until_released(empty_engine, plugin)
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


def test_told_to_end_the_first_process_does_so_in_time_and_unmounts_nothing(
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
    records.goes_on()
    records.stop()
    wait_until_released(empty_engine, plugin)
    empty_engine.docker("volume", "rm", "db")


def test_the_first_process_reaps_orphans(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    first = plugin.pid
    inside = ["nsenter", f"--target={first}", "--mount", "--pid"]
    subprocess.run([*inside, "sh", "-c", "sleep 1000 >/dev/null 2>&1 &"], check=True)
    (orphan,) = _children(first)
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not _children(first), 30, "the orphan is reaped")


def test_settings_hold_from_the_next_start_on(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    create(empty_engine, "old", "--opt=size=64MiB")
    records = checker.start(empty_engine, "old")
    plugin.stop()
    settings = plugin.state_dir / "config.toml"
    settings.write_text('[profiles.tiny]\nsize = "24MiB"\n')
    plugin.start({"VOLPLUG_DEFAULT_SIZE": "32MiB", "VOLPLUG_CONFIG": "/var/lib/volplug/config.toml"})
    for name, option in (("new", "backend=loop"), ("tiny", "profile=tiny")):
        empty_engine.docker("volume", "create", "--driver=volplug", f"--opt={option}", name)
    sizes = {name: inspect(empty_engine, "volume", name)["Status"]["size"] for name in volumes(empty_engine)}
    assert sizes == {"old": "64MiB", "new": "32MiB", "tiny": "24MiB"}
    records.goes_on()
    records.stop()
    empty_engine.docker("volume", "rm", "old", "new", "tiny")
    plugin.stop()
    settings.unlink()
    plugin.start({"VOLPLUG_DEFAULT_SIZE": "", "VOLPLUG_CONFIG": ""})


def test_a_setting_that_cannot_be_is_told_by_every_command(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db", "--label=team=web")
    run(empty_engine, "-v", "db:/data", script="echo kept >/data/file")
    plugin.stop()
    plugin.start({"VOLPLUG_DEFAULT_FS": "ntfs"})
    reason = "setting default_fs: is one of btrfs, ext4, xfs."
    assert reason in refusal(empty_engine, "volume", "create", "--driver=volplug", "new")
    assert f"volplug: {reason}" in plugin.log_text
    plugin.stop()
    plugin.start({"VOLPLUG_DEFAULT_FS": ""})
    assert inspect(empty_engine, "volume", "db")["Labels"] == {"team": "web"}
    assert run(empty_engine, "-v", "db:/data", script="cat /data/file") == "kept\n"
    empty_engine.docker("volume", "rm", "db")


def test_another_state_directory_makes_docker_forget_nothing(
    empty_engine: Engine, plugin: ManagedVolplug
) -> None:
    create(empty_engine, "db")
    run(empty_engine, "-v", "db:/data", script="echo kept >/data/file")
    other = empty_engine.directory / "other"
    other.mkdir()
    plugin.stop()
    plugin.set(f"state.source={other}")
    plugin.start()
    error = refusal(empty_engine, "volume", "create", "--driver=volplug", "new")
    assert "state directory /var/lib/volplug is not the one used before" in error
    plugin.stop()
    plugin.set(f"state.source={plugin.host_dir}")
    plugin.start()
    assert run(empty_engine, "-v", "db:/data", script="cat /data/file") == "kept\n"
    empty_engine.docker("volume", "rm", "db")


def test_volumes_outlive_the_plugin(empty_engine: Engine, plugin: ManagedVolplug) -> None:
    devices = sorted(entry.name for entry in Path("/dev").iterdir())
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    plugin.remove()
    assert sorted(entry.name for entry in Path("/dev").iterdir()) == devices
    records.goes_on()
    plugin.install().start()
    records.goes_on()
    assert volumes(empty_engine) == ["db"]
    records.verify()
    records.stop()
    wait_until_released(empty_engine, plugin)
    records.verify()
    empty_engine.docker("volume", "rm", "db")


def _mount_lines(engine: Engine, plugin: ManagedVolplug) -> list[str]:
    """The lines of the engine's mountinfo about volumes: another number is another mount."""
    root = f" {plugin.mount_root}/"
    lines = engine.path("/proc/1/mountinfo").read_text().splitlines()
    found = [line for line in lines if root in line]
    assert found
    return found


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
