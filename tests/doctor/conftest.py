"""Doctor on this machine: real state directories, loop devices and mounts, a served volplug."""

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.host.conftest import disks
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine, dockerd, fork_server, machine
from volplug.doctor.checks import CHECKS, Check, findings_of
from volplug.doctor.command import examination_of
from volplug.doctor.installation import process_at
from volplug.drivers.loop.directory import unlock_all
from volplug.findings import Finding, Level

__all__ = ["disks", "dockerd", "fork_server", "machine"]

Examine = Callable[..., Awaitable[Sequence[Finding]]]


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of this machine is used, and none that a running volplug had is kept."""
    for name in [each for each in os.environ if each.startswith(("VOLPLUG_", "AWS_", "EBS_", "OS_"))]:
        if name not in ("VOLPLUG_LANE", "VOLPLUG_LANE_NETWORK"):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    yield
    unlock_all()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def flags_of(machine: LocalMachine, state_dir: Path | None = None) -> dict[str, str]:
    """The settings of a volplug on a machine, as flags would give them."""
    return {
        "socket": str(machine.directory / "p.sock"),
        "state_dir": str(state_dir or machine.directory / "volplug"),
    }


@pytest.fixture
def volplug(machine: LocalMachine) -> Iterator[VolplugProcess]:
    with VolplugProcess(machine) as process:
        wait_until(lambda: process_at(process.state_dir / "control.sock") != 0, 10, "the API is served")
        yield process


@pytest.fixture
def examine(machine: LocalMachine) -> Examine:
    """Run checks on the volplug of the machine, whether it runs or not."""

    async def runs(*checks: Check, unused_days: float | None = None) -> Sequence[Finding]:
        examination = await examination_of(flags_of(machine), unused_days)
        return await findings_of(examination, checks or CHECKS)

    return runs


@pytest.fixture
def stopped(volplug: VolplugProcess) -> VolplugProcess:
    """A volplug that was started once, and stopped."""
    volplug.stop()
    return volplug


def unwell(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.GREEN]


def only(findings: Sequence[Finding]) -> Finding:
    (finding,) = findings
    return finding


async def mend(finding: Finding) -> str:
    assert finding.fix is not None
    return await finding.fix.apply()
