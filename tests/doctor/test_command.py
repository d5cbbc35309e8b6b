"""`volplug doctor` as a program: lines, JSON, exit codes, questions, checks that fail or hang."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.doctor.conftest import flags_of
from tests.lab.operator import Operator
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import clean_environment
from tests.served.conftest import LocalMachine
from volplug.config import Settings
from volplug.config.reading import flag_of
from volplug.doctor.checks import CHECKS, findings_of
from volplug.doctor.command import DoctorOptions, read_options
from volplug.doctor.examination import Examination
from volplug.doctor.report import Treated, json_of, lines_of, worst_of
from volplug.errors import HostError, VolplugError
from volplug.findings import Finding, Level

pytestmark = [pytest.mark.api, pytest.mark.loop]

GREEN, YELLOW, RED = Level
_ROOT = Path(__file__).parents[2]
_SPEC = "plugin-socket"  # yellow: the tests' socket is not where Docker looks


def argv_of(machine: LocalMachine, *arguments: str) -> list[str]:
    flags = [word for name, value in flags_of(machine).items() for word in (flag_of(name), value)]
    return [sys.executable, "-m", "volplug", "doctor", *flags, *arguments]


def doctor(machine: LocalMachine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv_of(machine, *arguments),
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=str(_ROOT)),
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_host_where_all_is_well_has_no_red_line(machine: LocalMachine, volplug: VolplugProcess) -> None:
    ran = doctor(machine)
    assert (ran.returncode, ran.stderr) == (0, "")
    *lines, counted = ran.stdout.splitlines()
    others = [line for line in lines if not line.startswith("green ")]
    # There is no engine here, and the socket is in a directory of the tests.
    assert [line.split()[:2] for line in others] == [["yellow", _SPEC], ["yellow", "engine"]]
    assert counted.endswith(" green, 2 yellow, 0 red")
    assert "\x1b" not in ran.stdout


def test_fixes_are_made_only_where_they_are_agreed_to(machine: LocalMachine, volplug: VolplugProcess) -> None:
    volplug.kill()
    socket = machine.directory / "p.sock"
    ran = doctor(machine, "--fix")
    assert (ran.returncode, socket.exists()) == (1, True)
    told = "1 finding could be, but there is no terminal to ask on. Add --yes to agree"
    assert ran.stderr == f"volplug: nothing was mended: {told}\n"
    ran = doctor(machine, "--fix", "--yes", "--format", "json")
    assert (ran.returncode, socket.exists()) == (1, False)  # volplug does not run, which stays red
    assert ran.stderr == f"volplug: mended: removed {socket}\n"
    document = json.loads(ran.stdout)
    assert document["level"] == "red"
    assert {
        "check": "plugin-socket",
        "level": "red",
        "subject": str(socket),
        "message": "no process listens on it, each call of Docker fails",
        "remedy": f"Start volplug, or rm {socket}",
        "fix": f"Remove the socket file {socket}, on which no process listens?",
        "mended": f"removed {socket}",
        "failure": None,
    } in document["findings"]


@pytest.mark.parametrize(("answer", "is_mended"), [("y\n", True), ("\n", False)])
def test_on_a_terminal_it_asks_in_colours(
    machine: LocalMachine, volplug: VolplugProcess, answer: str, is_mended: bool
) -> None:
    volplug.kill()
    shown = on_terminal(argv_of(machine, "--fix"), b"[y/N] ", answer.encode())
    assert "\x1b[31mred   \x1b[0m" in shown
    assert ("mended: removed" in shown) == is_mended
    assert (machine.directory / "p.sock").exists() != is_mended


def on_terminal(argv: Sequence[str], question: bytes, answer: bytes) -> str:
    """Run a program on a terminal, and answer its question."""
    ours, theirs = pty.openpty()
    environment = clean_environment(PYTHONPATH=str(_ROOT), TERM="xterm")
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b""
        while question not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, answer)
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the program has ended
            pass
    os.close(ours)
    return shown.decode()


def test_wrong_settings_are_findings_and_wrong_flags_end_it(machine: LocalMachine) -> None:
    ran = doctor(machine, "--default-fs", "zfs", "--backend", "nonsense")
    assert ran.returncode == 1
    reds = [line for line in ran.stdout.splitlines() if line.startswith("red     settings")]
    assert "flag --default-fs: 'zfs' is not allowed. Write one of btrfs" in reds[0]
    assert "driver 'nonsense' is not installed" in reds[1]
    ran = doctor(machine, "--no-such-flag", "s3cret")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--no-such-flag" in ran.stderr
    assert "s3cret" not in ran.stderr


@pytest.mark.parametrize("arguments", [["--yes"], ["--format", "yaml"], ["--unused-days", "0"], ["value"]])
def test_flags_that_cannot_be_right_are_refused(arguments: list[str]) -> None:
    with pytest.raises(VolplugError):
        read_options(arguments)


def test_flags_of_doctor_and_of_serve_are_told_apart() -> None:
    options, flags = read_options(["--node-id", "a", "--fix", "--unused-days=2.5", "--yes", "--linger-s=3"])
    assert options == DoctorOptions(fixes=True, is_agreed=True, unused_days=2.5)
    assert flags == {"node_id": "a", "linger_s": "3"}


async def test_a_check_that_fails_or_hangs_is_a_finding_and_stops_no_other() -> None:
    let_go = threading.Event()
    examination = Examination(Settings(), {}, None, is_managed=False)

    async def check_bug(_: Examination) -> Sequence[Finding]:
        raise KeyError("x")

    async def check_refused_thing(_: Examination) -> Sequence[Finding]:
        raise HostError("the disk is gone", "Put it back")

    async def check_hung(examination: Examination) -> Sequence[Finding]:
        await examination.blocking(let_go.wait)
        return []

    async def check_well(_: Examination) -> Sequence[Finding]:
        return [Finding("well", GREEN, "", "fine")]

    checks = (check_bug, check_refused_thing, check_hung, check_well)
    try:
        bug, refused, hung, well = await findings_of(examination, checks, timeout_s=0.1)
    finally:
        let_go.set()
    assert (bug.check, bug.level, bug.message) == ("bug", RED, "the check failed: KeyError: 'x'")
    assert refused == Finding("refused-thing", RED, "", "the disk is gone", "Put it back")
    assert (hung.check, hung.level, "did not answer" in hung.message) == ("hung", RED, True)
    assert well.level is GREEN


def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """Reading a FIFO without a writer stands for it: the thread never returns."""
    program = """
import os, sys
from volplug.__main__ import main
from volplug.doctor import checks, command
async def check_disk(examination):
    return await examination.blocking(open, sys.argv[1])
command.findings_of.__defaults__ = ((check_disk,), 0.2)
main(["doctor", "--state-dir", os.path.dirname(sys.argv[1])])
"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    environment = clean_environment(PYTHONPATH=str(_ROOT))
    argv = [sys.executable, "-c", program, str(fifo)]
    ran = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (1, "0 green, 0 yellow, 1 red")


def test_lines_and_the_document_hold_no_secrets_and_one_line_each() -> None:
    finding = Finding("backend", RED, "ebs", "refused\nfor https://user:hunter2@ec2", "Look")
    (line, counted) = lines_of([finding], is_coloured=False)
    assert counted == "0 green, 0 yellow, 1 red"
    assert line.startswith("red     backend  ebs: refused for https://")
    assert line.endswith(". Look")
    assert "hunter2" not in line + json.dumps(json_of([Treated(finding)]))


def test_what_was_mended_does_not_count_any_more() -> None:
    red, yellow = (Finding("c", level, "", "m") for level in (RED, YELLOW))
    assert worst_of([Treated(red), Treated(yellow)]) is RED
    assert worst_of([Treated(red, mended="done"), Treated(yellow)]) is YELLOW
    assert worst_of([Treated(red, failure="no")]) is RED
    assert worst_of([]) is GREEN


def test_every_check_has_a_name_of_its_own_which_the_page_has() -> None:
    names = [check.__name__ for check in CHECKS]
    assert len(set(names)) == len(names)
    page = (_ROOT / "docs/doctor.md").read_text()
    shown = [name.removeprefix("check_").replace("_", "-") for name in names]
    assert [name for name in shown if f"`{name}`" not in page] == []


def test_the_commands_of_the_page_on_operating(
    machine: LocalMachine, volplug: VolplugProcess, tmp_path: Path
) -> None:
    program = shlex.join(argv_of(machine))
    environment = clean_environment(PYTHONPATH=str(_ROOT))

    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)

    shown = Operator(run, {"volplug doctor": program}, tmp_path).does("docs/operations.md", "Check a host")
    assert shown.count(" 0 red\n") == 2


def test_the_page_shows_the_document_and_names_every_check(machine: LocalMachine) -> None:
    page = (_ROOT / "docs/doctor.md").read_text()
    (shown,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    document = json.loads(shown)
    made = json_of([Treated(Finding("c", RED, "s", "m"))])
    assert (document.keys(), document["findings"][0].keys()) == (made.keys(), made["findings"][0].keys())
    ran = json.loads(doctor(machine, "--format", "json", "--unused-days", "3").stdout)
    table = page.partition("## What is checked")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {each["check"] for each in ran["findings"]} <= set(re.findall(r"`([a-z-]+)`", " ".join(rows)))
