"""The command line. `serve` is found first, so that the plugin starts without what only people need."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from volplug import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="volplug", description="Docker volume plugin: block storage that follows your containers."
    )
    parser.add_argument("--version", action="version", version=f"volplug {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve Docker's volume plugin protocol in the foreground")
    _add_setting_flags(serve)
    given = vars(parser.parse_args(arguments))
    given.pop("command")
    return _serve({name: value for name, value in given.items() if value is not None})


def _add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Give every setting its flag; those with tables stay in the configuration file."""
    from volplug.config import Settings

    parser.add_argument("--config", metavar="FILE", help="configuration file (/etc/volplug/config.toml)")
    for name in Settings.model_fields:
        if name not in {"backends", "profiles"}:
            flag = name.replace("_", "-")
            parser.add_argument(
                f"--{flag}", dest=name, metavar="VALUE", help=f"same as VOLPLUG_{name.upper()}"
            )


def _serve(flags: dict[str, str]) -> int:
    from volplug.app import run
    from volplug.config import load_settings
    from volplug.errors import VolplugError

    try:
        run(load_settings(flags))
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
