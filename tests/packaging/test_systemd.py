"""The systemd units are valid, and keep nothing that volplug mounts from Docker."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
SERVICE = UNITS / "volplug.service"
SOCKET = UNITS / "volplug.socket"

# Every directive that makes systemd start a service in a mount namespace of its own (systemd.exec(5)).
MAKES_A_NAMESPACE = re.compile(
    r"Private(Tmp|Devices|Mounts|Network|IPC|Users|PIDs)|Protect\w+|ProcSubset|DynamicUser"
    r"|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|TemporaryFileSystem"
    r"|Mount(Flags|APIVFS|Images)|Root(Directory|Image|Ephemeral)|Extension(Images|Directories)"
    r"|(Network|IPC)NamespacePath|LogNamespace"
)


def directives(unit: Path) -> list[tuple[str, str]]:
    lines = unit.read_text().splitlines()
    return [
        (key, value)
        for key, mark, value in (line.partition("=") for line in lines if line[:1] != "#")
        if mark
    ]


def verify(directory: Path) -> subprocess.CompletedProcess[str]:
    units = [str(directory / unit.name) for unit in (SERVICE, SOCKET)]
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], check=False, capture_output=True, text=True
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as installed, with a program that exists on every machine in place of volplug."""
    for unit in (SERVICE, SOCKET):
        text = unit.read_text().replace("/usr/local/bin/volplug", "/bin/echo")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (make setup as root)"
)


@needs_systemd_analyze
def test_units_are_valid(installed: Path) -> None:
    result = verify(installed)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd_analyze
def test_the_check_sees_a_directive_that_does_not_exist(installed: Path) -> None:
    broken = installed / SERVICE.name
    broken.write_text(broken.read_text().replace("KillMode=", "KilMode="))
    result = verify(installed)
    assert "KilMode" in result.stdout + result.stderr


@pytest.mark.parametrize("unit", [SERVICE, SOCKET], ids=lambda unit: unit.name)
def test_no_directive_hides_our_mounts_from_docker(unit: Path) -> None:
    assert [key for key, _ in directives(unit) if MAKES_A_NAMESPACE.fullmatch(key)] == []


def test_the_namespace_rule_knows_the_usual_hardening() -> None:
    usual = ["PrivateTmp", "ProtectSystem", "ReadWritePaths", "PrivateMounts", "MountFlags", "ProtectHome"]
    assert [key for key in usual if not MAKES_A_NAMESPACE.fullmatch(key)] == []


def test_only_volplug_itself_is_told_to_stop() -> None:
    assert ("KillMode", "process") in directives(SERVICE)


def test_systemd_is_told_how_volplug_does() -> None:
    assert ("Type", "notify") in directives(SERVICE)
    assert ("WatchdogSec", "120") in directives(SERVICE)


def test_docker_starts_after_volplug_and_stops_before_it() -> None:
    assert ("Before", "docker.service") in directives(SERVICE)
    assert ("Requires", "volplug.socket") in directives(SERVICE)


def test_pools_are_imported_and_mounted_before_volplug_starts() -> None:
    after = [unit for key, value in directives(SERVICE) if key == "After" for unit in value.split()]
    assert {"zfs-import.target", "zfs-mount.service"} <= set(after)
    wanted = [value for key, value in directives(SERVICE) if key in ("Wants", "Requires")]
    assert "zfs" not in " ".join(wanted)  # most hosts have none


def test_the_socket_is_where_docker_looks_and_only_for_root() -> None:
    assert ("ListenStream", "/run/docker/plugins/volplug.sock") in directives(SOCKET)
    assert ("SocketMode", "0600") in directives(SOCKET)
