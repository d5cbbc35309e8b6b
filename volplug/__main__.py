"""The command line. `serve` is parsed first, so that the plugin starts with few imports."""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from volplug import __version__

if TYPE_CHECKING:
    from volplug.config import Settings


class _Parser(argparse.ArgumentParser):
    """Does not repeat an unknown command: it may be the value of an unknown flag, and a secret."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub(r"invalid choice: .*? \(", "invalid choice (", message, flags=re.DOTALL))


class _ServeParser(argparse.ArgumentParser):
    """Raises the error instead of exiting, because a service has to answer with it."""

    def error(self, message: str) -> NoReturn:
        from volplug.errors import ConfigurationError

        raise ConfigurationError(message, "See volplug serve --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _Parser(
        prog="volplug", description="Docker volume plugin: block storage that follows your containers."
    )
    parser.add_argument("--version", action="version", version=f"volplug {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "serve", help="serve Docker's volume plugin protocol in the foreground", add_help=False
    )
    _, rest = parser.parse_known_args(given)
    return _serve(rest)


def serving_settings(arguments: Sequence[str]) -> Settings:
    """Read the settings of `volplug serve`: flags, environment, file.

    Raises:
        ConfigurationError: With the name of the wrong setting and the reason.
    """
    from volplug.config import Settings, load_settings

    parser = _ServeParser(prog="volplug serve", allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="configuration file (/etc/volplug/config.toml)")
    for name in Settings.model_fields:
        if name not in {"backends", "profiles"}:  # tables stay in the file
            flag = name.replace("_", "-")
            parser.add_argument(
                f"--{flag}", dest=name, metavar="VALUE", help=f"same as VOLPLUG_{name.upper()}"
            )
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(map(_without_value, unknown))}")
    flags = vars(known)
    return load_settings({name: value for name, value in flags.items() if value is not None})


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


def _without_value(argument: str) -> str:
    """Return the flag of an unknown argument: its value may be a secret."""
    if argument.startswith("--"):
        return argument.partition("=")[0]
    return argument[:2] if argument.startswith("-") else "VALUE"


if __name__ == "__main__":
    sys.exit(main())
