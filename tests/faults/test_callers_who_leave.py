"""Whoever asked leaves before a slow first Mount is done: the work goes on, and the retry joins it."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dockerd import Dockerd
from tests.faults.agreement import assert_agreement
from tests.faults.records import Records
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import find_program
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import record_of

pytestmark = [pytest.mark.faults, pytest.mark.loop]


class SlowFormat:
    """An mkfs.ext4 that waits to be allowed to go on, in front of the real one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._starts, self._allowed = directory / "starts", directory / "allowed"
        program = directory / "mkfs.ext4"
        directory.mkdir()
        program.write_text(
            f"#!/bin/sh\necho started >>{shlex.quote(str(self._starts))}\n"
            f"until [ -e {shlex.quote(str(self._allowed))} ]; do sleep 0.02; done\n"
            f'exec {find_program("mkfs.ext4")} "$@"\n'
        )
        program.chmod(0o755)

    @property
    def starts(self) -> int:
        return self._starts.read_text().count("started") if self._starts.exists() else 0

    def wait_until_started(self) -> None:
        wait_until(lambda: self.starts > 0, 20, "mkfs has started")

    def allow(self) -> None:
        self._allowed.touch()


@pytest.fixture
def slow_format(machine: LocalMachine) -> Iterator[SlowFormat]:
    program = SlowFormat(machine.directory / "bin")
    try:
        yield program
    finally:
        program.allow()  # what a failed test left running ends


def _path(slow_format: SlowFormat) -> dict[str, str]:
    return {"PATH": f"{slow_format.directory}:{os.environ['PATH']}", "VOLPLUG_LOG_LEVEL": "debug"}


async def _ask_and_leave(machine: LocalMachine, mount_id: str, slow_format: SlowFormat) -> None:
    """Ask for a Mount and leave unanswered once it is under way, as after Docker's 30 s."""
    socket = machine.directory / "p.sock"
    async with Dockerd(socket) as client, Dockerd(socket) as another:
        await client.send("/VolumeDriver.Mount", f'{{"Name": "db", "ID": "{mount_id}"}}'.encode())
        slow_format.wait_until_started()
        assert (await another.ok("Get", Name="db"))["Volume"]["Name"] == "db"


async def test_however_many_leave_the_format_runs_once_and_the_retry_gets_the_volume(
    machine: LocalMachine, slow_format: SlowFormat
) -> None:
    with VolplugProcess(machine, env=_path(slow_format)) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
            for attempt in range(5):
                await _ask_and_leave(machine, f"left-{attempt}", slow_format)
            await dockerd.send("/VolumeDriver.Mount", b'{"Name": "db", "ID": "stayed"}')
            slow_format.allow()
            reply = await dockerd.receive()
            assert reply is not None
            records = Records(Path(reply.json["Mountpoint"]))
            records.write(5)
            assert slow_format.starts == 1
            await assert_agreement(dockerd, volplug, {"db": 1})
            await dockerd.ok("Unmount", Name="db", ID="stayed")
            await assert_agreement(dockerd, volplug, {})
            await dockerd.ok("Mount", Name="db", ID="again")
            records.check()
            await dockerd.ok("Unmount", Name="db", ID="again")


async def test_answers_that_come_too_late_are_errors_and_the_work_is_done_once(
    machine: LocalMachine, slow_format: SlowFormat
) -> None:
    with VolplugProcess(machine, env={**_path(slow_format), "VOLPLUG_SLOW_ANSWER_S": "0.2"}) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            await _patiently(dockerd, "Create", Opts={"size": "16MiB"})
            for attempt in range(3):
                assert await dockerd.error("Mount", Name="db", ID=f"late-{attempt}") == (
                    'still in progress after 0 s [mount "db"]. Try again: a retry joins it.'
                )
            slow_format.allow()
            wait_until(lambda: '"formatted"' in record_of(volplug, "db").read_text(), 20, "it is formatted")
            answer = await _patiently(dockerd, "Mount", ID="patient")
            records = Records(Path(answer["Mountpoint"]))
            records.write(5)
            assert slow_format.starts == 1
            await assert_agreement(dockerd, volplug, {"db": 1})
            await dockerd.ok("Unmount", Name="db", ID="patient")
            await assert_agreement(dockerd, volplug, {})


async def _patiently(dockerd: Dockerd, verb: str, **body: object) -> dict[str, Any]:
    """Call as users do: on a busy machine the next try may be late as well."""
    for _ in range(50):
        answer = (await dockerd.call(verb, Name="db", **body)).json
        if not answer.get("Err"):
            return answer
        assert "a retry joins it" in answer["Err"]
    raise AssertionError(f"{verb} in vain")
