"""The command line. Functions import what they need: `serve` stops garbage collection before its imports."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from volplug import __version__

if TYPE_CHECKING:
    from volplug.config import Settings
    from volplug.errors import ConfigurationError

_COMMANDS: Final = {
    "serve": "serve Docker's volume plugin protocol in the foreground",
    "check-config": "tell all mistakes in flags, environment and file; exits with 1 if there are any",
    "make-token": "ROLE NAME: print a new token of the control API, and its line of the access file",
}
_WITHOUT_VALUE: Final = frozenset({"-h", "--help", "--version"})


class _FlagParser(argparse.ArgumentParser):
    """Raises the error instead of exiting, because a service has to answer with it."""

    def error(self, message: str) -> NoReturn:
        from volplug.errors import ConfigurationError

        raise ConfigurationError(message, "See volplug --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    command, rest = split_command(sys.argv[1:] if arguments is None else arguments)
    if command == "serve":
        return _serve(rest)
    from volplug.errors import VolplugError

    try:
        if command == "check-config":
            return _check_config(rest)
        if command == "make-token":
            return _make_token(rest)
        _parser().parse_known_args(rest)  # --help and --version end here
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 2
    # Not repeated: it may be the value of an unknown flag, and a secret.
    why = "unknown command" if command else "no command is given"
    sys.stderr.write(f"volplug: {why}. Commands are {', '.join(_COMMANDS)}; see volplug --help.\n")
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
    from volplug.config.mistakes import combined

    flags, mistakes = _read_flags(arguments)
    read = read_settings(flags)
    if not mistakes and not read.mistakes:
        return read.settings
    all_mistakes, _ = check(flags, mistakes)
    raise combined(all_mistakes)


def _read_flags(arguments: Sequence[str]) -> tuple[dict[str, str], list[ConfigurationError]]:
    """Return the flags that are known, and the mistakes that the others are."""
    from volplug.config import TABLES, Settings, flag_of
    from volplug.config.mistakes import unknown
    from volplug.errors import ConfigurationError

    parsed, others = _parser().parse_known_args(arguments)
    names = [flag_of(name) for name in ("config", *Settings.model_fields) if name not in TABLES]
    # Without the values, which may be secrets.
    flags = [
        each.partition("=")[0] if each.startswith("--") else each[:2] for each in others if each[:1] == "-"
    ]
    mistakes = [unknown("flag", flag, names) for flag in flags]
    if others and not flags:
        mistakes.append(ConfigurationError("a value without a flag is given", "See volplug --help"))
    return {name: value for name, value in vars(parsed).items() if value is not None}, mistakes


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the flags, which are those of all commands."""
    from volplug.config import DEFAULT_CONFIG, TABLES, Settings, default_text, flag_of, variable_of

    parser = _FlagParser(
        prog="volplug",
        usage="volplug COMMAND [--FLAG VALUE ...]",
        description="Docker volume plugin: block storage that follows your containers.",
        epilog="\n".join(["commands:", *(f"  {name:22}{does}" for name, does in _COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"volplug {__version__}")
    parser.add_argument(
        "--config", metavar="FILE", help=f"Configuration file (default: {DEFAULT_CONFIG}; VOLPLUG_CONFIG)"
    )
    for name, about in Settings.model_fields.items():
        if name not in TABLES:  # they stay in the file
            meaning = f"{about.description} (default: {default_text(name)}; {variable_of(name)})"
            parser.add_argument(flag_of(name), dest=name, metavar="VALUE", help=meaning)
    return parser


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

    mistakes, report = check(*_read_flags(arguments))
    sys.stdout.write(f"{report}\n")
    return 1 if mistakes else 0


def _make_token(arguments: Sequence[str]) -> int:
    from volplug.api.access import make_token
    from volplug.errors import InvalidRequest

    match arguments:
        case [role, name] if not role.startswith("-"):
            sys.stdout.write("\n".join([*make_token(role, name), ""]))
            return 0
    _parser().parse_known_args(arguments)  # --help ends here
    raise InvalidRequest("make-token needs a role and a name", "Write volplug make-token read NAME, or admin")


if __name__ == "__main__":
    sys.exit(main())
