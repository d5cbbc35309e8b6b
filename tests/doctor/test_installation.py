"""Which volplug is on a host: the service, the managed plugin, one that runs, how it was started."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.doctor.conftest import flags_of
from tests.lab.plugin import SERVE, VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine, local_machine
from volplug.doctor.command import examination_of
from volplug.doctor.installation import as_seen_here, managed_paths, process_at, started_with

pytestmark = [pytest.mark.api, pytest.mark.loop]

PLUGIN = "0123456789abcdef" * 4
NO_MOUNTS = ""


def plugin_place(docker_root: Path, state_id: str, plugin: str = PLUGIN) -> Path:
    place = docker_root / "plugins" / plugin / "propagated-mount"
    place.mkdir(parents=True)
    (place / "state-id").write_text(f"{state_id}\n")
    return place


@pytest.mark.parametrize("is_mounted", [True, False])
def test_the_managed_plugin_is_known_by_the_id_of_its_state(tmp_path: Path, is_mounted: bool) -> None:
    """A plugin that is disabled has nothing mounted; other plugins have such directories, too."""
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    (state_dir / "state-id").write_text("a1\n")
    root = tmp_path / "docker"
    place = plugin_place(root, "a1")
    other = plugin_place(root, "b2", "f" * 64)
    lines = [f"40 1 8:1 / {each} rw shared:9 - ext4 /dev/sda1 rw\n" for each in (other, place)]
    mounts = "".join(lines) if is_mounted else NO_MOUNTS
    found = managed_paths(state_dir, mounts, tmp_path / "none" if is_mounted else root)
    assert found == {
        "mount_root": f"{place}/volumes",
        "state_marker": f"{place}/state-id",
        "socket": f"/run/docker/plugins/{PLUGIN}/volplug.sock",
    }


def test_a_service_is_not_taken_for_a_managed_plugin(tmp_path: Path) -> None:
    (tmp_path / "state-id").write_text("a1\n")
    plugin_place(tmp_path / "docker", "b2")
    assert managed_paths(tmp_path, NO_MOUNTS, tmp_path / "docker") == {}
    assert managed_paths(tmp_path / "missing", NO_MOUNTS, tmp_path / "docker") == {}


def test_files_of_the_plugin_are_found_where_the_host_has_them() -> None:
    given = {"VOLPLUG_CONFIG": "/var/lib/volplug/config.toml", "AWS_REGION": "eu-central-1"}
    seen = {**given, "VOLPLUG_CONFIG": "/srv/disk/volplug/config.toml"}
    assert as_seen_here(given, Path("/srv/disk/volplug")) == seen


async def test_the_settings_of_a_volplug_that_runs_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's are in a file of systemd's; an operator's shell has none of them."""
    given = {"VOLPLUG_NODE_ID": "node-7", "VOLPLUG_DEFAULT_FS": "xfs"}
    argv = (*SERVE, "--linger-s", "7")
    with local_machine() as machine, VolplugProcess(machine, env=given, argv=argv) as volplug:
        control = volplug.state_dir / "control.sock"
        await asyncio.to_thread(wait_until, lambda: process_at(control) != 0, 10, "the API is served")
        monkeypatch.setenv("VOLPLUG_DEFAULT_FS", "btrfs")
        examination = await examination_of(flags_of(machine))
    assert (examination.daemon_pid != 0, examination.is_managed) == (True, False)
    assert examination.daemon is not None
    settings = examination.settings
    assert (settings.node_id, settings.linger_s, settings.default_fs) == ("node-7", 7, "btrfs")


async def test_a_volplug_that_is_silent_is_not_asked(machine: LocalMachine, volplug: VolplugProcess) -> None:
    os.kill(volplug.pid, signal.SIGSTOP)
    try:
        examination = await examination_of(flags_of(machine))
    finally:
        os.kill(volplug.pid, signal.SIGCONT)
    assert (examination.daemon, examination.daemon_pid) == (None, volplug.pid)


def test_a_process_that_is_no_volplug_or_has_ended_tells_nothing() -> None:
    flags, variables = started_with(os.getpid())
    assert (flags, "PATH" in variables) == ([], False)
    assert started_with(2**22 + 1) == ([], {})
