"""The command line. Functions import what they need: `serve` stops garbage collection before its imports."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from volplug.config import Settings

# Those that run without the packages of `volplug[cli]`.
_COMMANDS: Final = {
    "serve": "serve Docker's volume plugin protocol in the foreground",
    "check-config": "tell all mistakes in flags, environment and file; exits with 1 if there are any",
    "doctor": "check this host and its backends, tell how to mend what is wrong; exits with 1 if it is red",
    "make-token": "ROLE NAME: print a new token of the control API, and its line of the access file",
}
_WITHOUT_VALUE: Final = frozenset({"-h", "--help", "--version", "--fix", "--yes"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    command, rest = split_command(given)
    if command == "serve":
        return _serve(rest)
    if command not in _COMMANDS:
        return _for_people(given)
    from volplug.errors import VolplugError

    try:
        return _HOST_COMMANDS[command](rest)
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 2


def _for_people(arguments: Sequence[str]) -> int:
    try:
        import typer  # noqa: F401  # with all that it needs
    except ImportError:
        return _without_packages(arguments)
    from volplug.cli.main import run

    return run(arguments)


def _without_packages(arguments: Sequence[str]) -> int:
    from volplug.config.flags import flag_parser

    commands = "\n".join(["commands:", *(f"  {name:22}{does}" for name, does in _COMMANDS.items())])
    flag_parser(commands).parse_known_args(arguments)  # --help and --version end here
    # What is given is not repeated: it may be the value of an unknown flag, and a secret.
    sys.stderr.write(
        f"volplug: only {', '.join(_COMMANDS)} are installed here. "
        "The other commands need more packages: pipx install 'volplug[cli]'.\n"
    )
    return 2


def split_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command, "" if there is none, and the flags: they mean the same before and after it."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 1 if "=" in arguments[at] or arguments[at] in _WITHOUT_VALUE else 2
    return "".join(arguments[at : at + 1]), [*arguments[:at], *arguments[at + 1 :]]


def serving_settings(arguments: Sequence[str]) -> Settings:
    """Read the settings of `volplug serve`: flags, environment, file.

    Raises:
        ConfigurationError: With the first mistake, and how many more there are.
    """
    from volplug.config import read_settings
    from volplug.config.checks import check
    from volplug.config.flags import read_flags
    from volplug.config.mistakes import combined

    flags, mistakes = read_flags(arguments)
    read = read_settings(flags)
    if not mistakes and not read.mistakes:
        return read.settings
    all_mistakes, _ = check(flags, mistakes)
    raise combined(all_mistakes)


def _serve(arguments: Sequence[str]) -> int:
    # Imports make hardly any garbage, and its collection took 59 of the 339 ms of a start (median of 15).
    gc.disable()
    # If installed, structlog imports it for coloured consoles, which a plugin does not have: 101 ms of 381.
    sys.modules["rich"] = None  # type: ignore[assignment]  # None makes an import fail
    from volplug.app import refuse, run
    from volplug.config import Settings
    from volplug.errors import VolplugError
    from volplug.managed import is_managed
    from volplug.server import is_socket_inherited

    # A managed plugin that exits shows no error to users, and clients of systemd's socket would wait in vain.
    must_answer = is_managed() or is_socket_inherited()
    socket = Settings.model_fields["socket"].default
    try:
        try:
            settings = serving_settings(arguments)
            socket = settings.socket
            gc.enable()
            run(settings)
        except Exception as error:
            if not must_answer:
                raise
            return refuse(error, socket)
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 1
    return 0


def _check_config(arguments: Sequence[str]) -> int:
    from volplug.config.checks import check
    from volplug.config.flags import read_flags

    mistakes, report = check(*read_flags(arguments))
    sys.stdout.write(f"{report}\n")
    return 1 if mistakes else 0


def _doctor(arguments: Sequence[str]) -> int:
    from volplug.doctor.command import main as doctor

    code = doctor(arguments)
    sys.stdout.flush()
    os._exit(code)  # a thread that hangs on a dead disk must not keep the process


def _make_token(arguments: Sequence[str]) -> int:
    from volplug.api.access import make_token
    from volplug.config.flags import flag_parser
    from volplug.errors import InvalidRequest

    match arguments:
        case [role, name] if not role.startswith("-"):
            sys.stdout.write("\n".join([*make_token(role, name), ""]))
            return 0
    flag_parser().parse_known_args(arguments)  # --help ends here
    raise InvalidRequest("make-token needs a role and a name", "Write volplug make-token read NAME, or admin")


_HOST_COMMANDS: Final = {"check-config": _check_config, "doctor": _doctor, "make-token": _make_token}

if __name__ == "__main__":
    sys.exit(main())
