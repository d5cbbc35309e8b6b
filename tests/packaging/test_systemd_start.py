"""The units under a systemd of their own: what users get while a setting is wrong, and once it is right."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.systemd import Systemd, booted
from tests.packaging.test_systemd import SERVICE, SOCKET

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/lib/systemd/systemd").exists(), reason="no systemd (make setup as root)"),
]

_VOLPLUG = f"""#!/bin/sh
exec env PYTHONPATH={Path(__file__).parents[2]} {sys.executable} -m volplug "$@"
"""
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
    async with Dockerd(systemd.root / "run" / "docker" / "plugins" / "volplug.sock") as dockerd:
        for verb in ("Create", "Mount", "Unmount", "Remove", "List"):
            assert await dockerd.error(verb, Name="db", ID="a") == _REASON
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is None
    (line,) = _journal(systemd, "err")
    assert line.endswith(f'level=error event="serving nothing" error="{_REASON}"')
    settings.write_text("")
    systemd.run("systemctl", "restart", "volplug.service")
    async with Dockerd(systemd.root / "run" / "docker" / "plugins" / "volplug.sock") as dockerd:
        assert await dockerd.ok("List") == {"Volumes": []}
        assert await dockerd.raw("/VolumeDriver.Get", b'{"Name":"db"}') is not None
    assert _journal(systemd, "err") == [line]
    assert [each for each in _journal(systemd, "info") if " event=ready " in each] != []


def test_the_name_of_the_managed_plugin_leads_to_the_socket_while_that_exists(systemd: Systemd) -> None:
    link = systemd.root / "run" / "docker" / "plugins" / "volplug:latest.sock"
    systemd.run("systemctl", "start", "volplug.socket")
    assert link.readlink() == Path("/run/docker/plugins/volplug.sock")
    systemd.run("systemctl", "stop", "volplug.socket")
    assert not link.is_symlink()


def _journal(systemd: Systemd, priority: str) -> list[str]:
    systemd.run("journalctl", "--sync")
    said = systemd.run("journalctl", "--unit=volplug.service", f"--priority={priority}", "--output=cat")
    return [line for line in said.splitlines() if " level=" in line]
