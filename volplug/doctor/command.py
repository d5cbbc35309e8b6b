"""`volplug doctor`: reads its flags, examines this host, mends what is safe if that is asked for."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.api.client import ControlClient, Endpoint
from volplug.api.client_errors import UsageError
from volplug.config.checks import try_backends
from volplug.config.flags import FlagParser, flag_parser, read_flags
from volplug.config.mistakes import combined
from volplug.config.reading import read_settings
from volplug.doctor.checks import findings_of
from volplug.doctor.daemon import ask
from volplug.doctor.examination import Examination, pool_of_doctor, quickly
from volplug.doctor.installation import adopt, as_seen_here, managed_paths, process_at, started_with
from volplug.doctor.managed_plugin import ManagedSettings, read_managed_settings
from volplug.doctor.report import Treated, json_of, lines_of, worst_of
from volplug.drivers.loop.directory import unlock_all
from volplug.errors import HostError, VolplugError
from volplug.findings import Finding, Level
from volplug.log import configure_logging

_INTERRUPTED: Final = 130  # as of shells: 128 and the number of SIGINT
_HEALTH_S: Final = 3.0  # less than is waited for one answer of this host
_FIX_S: Final = 120.0  # a release by volplug, an unmount of a slow disk
_HELP: Final = ("-h", "--help")
_EXIT_CODES: Final = "Exit codes: 0 nothing is red, 1 something is, 2 usage."


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the flags of doctor ask for.

    Attributes:
        fixes: Offer to mend what is safe to mend.
        is_agreed: Mend it without questions.
        as_json: Write one JSON document.
        unused_days: List volumes that were not used for so many days; None not to.
    """

    fixes: bool = False
    is_agreed: bool = False
    as_json: bool = False
    unused_days: float | None = None


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code. The process should end by `os._exit`: threads may hang.

    Raises:
        VolplugError: If the flags are wrong.
    """
    options, flags = read_options(arguments)
    configure_logging("critical")  # findings tell what drivers would log
    loop = asyncio.new_event_loop()  # not closed, which would wait for threads
    try:
        return loop.run_until_complete(_run(options, flags))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except VolplugError as error:
        _tell(str(error))
        return 1
    except BrokenPipeError:  # its reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed
        return 0


def read_options(arguments: Sequence[str]) -> tuple[DoctorOptions, Mapping[str, str]]:
    """Read doctor's own flags, and those of serve.

    Raises:
        VolplugError: If one is unknown, or has no value that it takes.
    """
    if any(each in _HELP for each in arguments):
        _add_flags(flag_parser(_EXIT_CODES)).parse_known_args(["--help"])
    own, rest = _add_flags(
        FlagParser(prog="volplug doctor", add_help=False, allow_abbrev=False)
    ).parse_known_args(arguments)
    if own.yes and not own.fix:
        raise UsageError("--yes agrees to fixes, which only --fix makes", "Write volplug doctor --fix --yes")
    flags, mistakes = read_flags(rest)
    if mistakes:
        raise combined(mistakes)
    return DoctorOptions(own.fix, own.yes, own.format == "json", own.unused_days), flags


def _add_flags(parser: FlagParser) -> FlagParser:
    group = parser.add_argument_group("doctor")
    group.add_argument("--fix", action="store_true", help="Mend what is safe to mend, asking first")
    group.add_argument("--yes", action="store_true", help="Do not ask")
    group.add_argument(
        "--format", choices=("text", "json"), default="text", help="Lines, or one JSON document"
    )
    group.add_argument(
        "--unused-days", type=_days, metavar="N", help="List volumes that were not used for N days"
    )
    return parser


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < float("inf"):
        raise argparse.ArgumentTypeError("it has to be above zero")
    return days


async def _run(options: DoctorOptions, flags: Mapping[str, str]) -> int:
    examination = await examination_of(flags, options.unused_days)
    findings = await findings_of(examination)
    unlock_all()  # volplug may start while a question waits for its answer
    if not options.as_json:
        for line in lines_of(findings, is_coloured=_is_coloured()):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    treated = await _treat(findings, _agreement(options)) if options.fixes else list(map(Treated, findings))
    if options.as_json:
        sys.stdout.write(f"{json.dumps(json_of(treated), indent=2)}\n")
    return 1 if worst_of(treated) is Level.RED else 0


# What is examined


async def examination_of(flags: Mapping[str, str], unused_days: float | None = None) -> Examination:
    """Find out which volplug is on this host and how it is set.

    A volplug that runs tells its settings: its flags and variables count as if they were given here, after
    those that are.
    """
    pool = pool_of_doctor()
    settings = (await quickly(pool, "the configuration file", read_settings, flags)).settings
    try:
        place = f"the disk of {settings.state_dir}"
        paths = await quickly(pool, place, managed_paths, settings.state_dir)
    except VolplugError:
        paths = {}  # the check of the directory tells
    control = settings.resolved_control_socket(is_managed=bool(paths))
    pid, is_answering = await quickly(pool, "the control socket", _daemon_at, control)
    if pid:
        given, variables = await quickly(pool, "/proc", started_with, pid)
        adopt(as_seen_here(variables, settings.state_dir) if paths else variables)
        theirs = {} if paths else (await pool.blocking(read_flags, given))[0]
        flags = {**theirs, **flags}
    elif managed := await _plugin_of(settings.state_dir):
        os.environ.update(managed.environment)
        paths = managed.flags
    read = await quickly(pool, "the configuration file", read_settings, {**paths, **flags})
    drivers, mistakes = await pool.blocking(try_backends, read.settings, has_all=read.has_all_backends)
    return Examination(
        read.settings,
        drivers,
        ControlClient(Endpoint((str(control),)), restart_s=0) if is_answering else None,
        is_managed=bool(paths),
        daemon_pid=pid,
        mistakes=(*read.mistakes, *mistakes),
        unused_days=unused_days,
        pool=pool,
    )


async def _plugin_of(state_dir: Path) -> ManagedSettings | None:
    """Return what Docker has set for the managed plugin of a state directory, which need not run."""
    try:
        managed = await read_managed_settings()
    except HostError:  # no engine, or no SDK: the check of the engine tells
        return None
    return managed if managed and managed.flags["state_dir"] == str(state_dir) else None


def _daemon_at(control: Path) -> tuple[int, bool]:
    """Return the process behind a control socket, 0 if none is in sight, and whether it answers."""
    pid = process_at(control)
    try:
        ask(control, "GET", "/healthz", _HEALTH_S)
    except (OSError, VolplugError):
        return pid, False
    return pid, True


# Fixes


def _agreement(options: DoctorOptions) -> Callable[[str], bool] | None:
    """Return what asks whether to do something; None if there is no terminal."""
    if options.is_agreed:
        return lambda _: True
    return _ask if sys.stdin.isatty() and sys.stdout.isatty() and not options.as_json else None


def _ask(question: str) -> bool:
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _treat(findings: Sequence[Finding], agrees: Callable[[str], bool] | None) -> list[Treated]:
    """Mend one after the other what can be mended and is agreed to."""
    fixable = [finding for finding in findings if finding.fix is not None]
    if fixable and agrees is None:
        count = f"{len(fixable)} finding{'s' if len(fixable) != 1 else ''}"
        _tell(f"nothing was mended: {count} could be, but there is no terminal to ask on. Add --yes to agree")
    if not fixable:
        _tell("nothing was mended: there is nothing that doctor can mend")
    return [await _treat_one(finding, agrees) for finding in findings]


async def _treat_one(finding: Finding, agrees: Callable[[str], bool] | None) -> Treated:
    if finding.fix is None or agrees is None or not agrees(finding.fix.question):
        return Treated(finding)
    work = asyncio.ensure_future(finding.fix.apply())
    done, _ = await asyncio.wait({work}, timeout=_FIX_S)
    if not done:
        failure = f"it has not ended within {_FIX_S:.0f} s"
    elif (error := work.exception()) is None:
        _tell(f"mended: {work.result()}")
        return Treated(finding, mended=work.result())
    else:
        failure = str(error).rstrip(".") if isinstance(error, VolplugError | OSError) else repr(error)
    _tell(f"not mended, {finding.subject}: {failure}")
    return Treated(finding, failure=failure)


def _tell(line: str) -> None:
    sys.stderr.write(f"volplug: {line}\n")
    sys.stderr.flush()


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
