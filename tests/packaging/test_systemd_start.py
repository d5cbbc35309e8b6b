"""The units under a systemd of their own: wrong settings, and what operators do with the service."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.operator import Operator
from tests.lab.systemd import Systemd, booted
from tests.lab.waiting import wait_until
from tests.packaging.test_systemd import SERVICE, SOCKET

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/lib/systemd/systemd").exists(), reason="no systemd (make setup as root)"),
]

_VOLPLUG = f"""#!/bin/sh
exec env PYTHONPATH={Path(__file__).parents[2]} {sys.executable} -m volplug "$@"
"""
_PAGE = "docs/operations.md"
_REASON = "variable VOLPLUG_LOG_LEVEL: 'loud' is not allowed. Write debug, info, warning or error."


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    """With the units installed and not started."""
    with booted() as systemd:
        for unit in (SERVICE, SOCKET):
            shutil.copy(unit, systemd.root / "etc" / "systemd" / "system")
        program = systemd.root / "usr" / "local" / "bin" / "volplug"
        program.write_text(_VOLPLUG)
        program.chmod(0o755)
        systemd.run("systemctl", "daemon-reload")
        yield systemd


async def test_a_wrong_setting_is_told_by_every_answer_until_it_is_right(systemd: Systemd) -> None:
    settings = systemd.root / "etc" / "default" / "volplug"
    settings.write_text("VOLPLUG_LOG_LEVEL=loud\n")
    systemd.run("systemctl", "start", "volplug.service")
    async with _dockerd(systemd) as dockerd:
        for verb in ("Create", "Mount", "Unmount", "Remove", "List"):
            assert await dockerd.error(verb, Name="db", ID="a") == _REASON
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is None
    (line,) = _journal(systemd, "err")
    assert _shown(systemd, "StatusText").startswith("serving nothing")
    assert line.endswith(f'level=error event="serving nothing" error="{_REASON}"')
    settings.write_text("")
    systemd.run("systemctl", "restart", "volplug.service")
    async with _dockerd(systemd) as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is not None
    assert '"ready":true' in _operator(systemd).does(_PAGE, "Health", 0)
    assert (_shown(systemd, "StatusText"), _shown(systemd, "WatchdogUSec")) == ("serving", "2min")
    assert _journal(systemd, "err") == [line]
    assert [each for each in _journal(systemd, "info") if " event=ready " in each] != []


def test_the_name_of_the_managed_plugin_leads_to_the_socket_while_that_exists(systemd: Systemd) -> None:
    link = systemd.root / "run" / "docker" / "plugins" / "volplug:latest.sock"
    systemd.run("systemctl", "start", "volplug.socket")
    assert link.readlink() == Path("/run/docker/plugins/volplug.sock")
    systemd.run("systemctl", "stop", "volplug.socket")
    assert not link.is_symlink()


def test_a_volplug_that_hangs_is_started_anew_and_one_that_runs_is_not(systemd: Systemd) -> None:
    drop_in = systemd.root / "etc" / "systemd" / "system" / "volplug.service.d" / "quick.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    systemd.run("systemctl", "daemon-reload")
    systemd.run("systemctl", "restart", "volplug.service")
    before = _shown(systemd, "WatchdogTimestampMonotonic")
    wait_until(lambda: _shown(systemd, "WatchdogTimestampMonotonic") != before, 10, "the watchdog is fed")
    assert _shown(systemd, "NRestarts") == "0"
    systemd.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "volplug.service")
    wait_until(lambda: _shown(systemd, "NRestarts") == "1", 20, "it is started anew")
    wait_until(lambda: _shown(systemd, "StatusText") == "serving", 20, "it serves")
    drop_in.unlink()
    systemd.run("systemctl", "daemon-reload")
    systemd.run("systemctl", "reset-failed", "volplug.service")


async def test_the_state_moves_to_a_data_disk_or_is_given_up(systemd: Systemd) -> None:
    systemd.run("systemctl", "start", "volplug.service")
    async with _dockerd(systemd) as dockerd:
        await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
    operator = _operator(systemd)
    operator.types("truncate --size 64M /disk; mkfs.ext4 -q /disk")
    operator.knows({"mount /dev/sdb1": "mount -o loop /disk"})
    operator.does(_PAGE, "Move the state to a data disk", 0)
    assert "/var/lib/volplug" in systemd.run("findmnt", "--noheadings", "/var/lib/volplug")
    async with _dockerd(systemd) as dockerd:
        await dockerd.ok("Mount", Name="db", ID="a")
        await dockerd.ok("Unmount", Name="db", ID="a")
    systemd.run("systemctl", "stop", "volplug.service")
    operator.types("umount /var/lib/volplug; mount -t tmpfs -o mode=0700 tmpfs /var/lib/volplug")
    systemd.run("systemctl", "start", "volplug.service")
    async with _dockerd(systemd) as dockerd:
        assert "is not the one used before" in await dockerd.error("List")
    assert "is not the one used before" in operator.does(_PAGE, "Watch", 0)
    operator.does("docs/errors.md", "state-unusable", 0)
    systemd.run("systemctl", "restart", "volplug.service")
    async with _dockerd(systemd) as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}


async def test_the_socket_gets_the_name_of_another_plugin(systemd: Systemd) -> None:
    _operator(systemd).does("docs/from-rexray.md", "Keep the driver's name", 1)
    async with Dockerd(systemd.root / "run" / "docker" / "plugins" / "rexray" / "ebs.sock") as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}
    assert not (systemd.root / "run" / "docker" / "plugins" / "volplug.sock").exists()


def _shown(systemd: Systemd, name: str) -> str:
    return systemd.run("systemctl", "show", "--value", f"--property={name}", "volplug.service").strip()


def _dockerd(systemd: Systemd) -> Dockerd:
    return Dockerd(systemd.root / "run" / "docker" / "plugins" / "volplug.sock")


def _operator(systemd: Systemd) -> Operator:
    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(list(argv), 0, systemd.run(*argv), "")

    return Operator(run, {}, systemd.root / "usr" / "local" / "bin")


def _journal(systemd: Systemd, priority: str) -> list[str]:
    systemd.run("journalctl", "--sync")
    said = systemd.run("journalctl", "--unit=volplug.service", f"--priority={priority}", "--output=cat")
    return [line for line in said.splitlines() if "level=" in line]
