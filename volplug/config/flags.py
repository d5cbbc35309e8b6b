"""The flags of `serve`, `check-config` and `config`: one for each setting."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from volplug import __version__
from volplug.config.mistakes import unknown
from volplug.config.reading import flag_of, variable_of
from volplug.config.settings import DEFAULT_CONFIG, TABLES, Settings, default_text
from volplug.errors import ConfigurationError


class FlagParser(argparse.ArgumentParser):
    """Raises the error instead of exiting, because a service has to answer with it."""

    def error(self, message: str) -> NoReturn:
        """Raise the error."""
        raise ConfigurationError(message, "See volplug serve --help")


def read_flags(arguments: Sequence[str]) -> tuple[dict[str, str], list[ConfigurationError]]:
    """Return the flags that are known, and the mistakes that the others are."""
    parsed, others = flag_parser().parse_known_args(arguments)
    names = [flag_of(name) for name in ("config", *Settings.model_fields) if name not in TABLES]
    # Without the values, which may be secrets.
    flags = [
        each.partition("=")[0] if each.startswith("--") else each[:2] for each in others if each[:1] == "-"
    ]
    mistakes = [unknown("flag", flag, names) for flag in flags]
    if others and not flags:
        mistakes.append(ConfigurationError("a value without a flag is given", "See volplug serve --help"))
    return {name: value for name, value in vars(parsed).items() if value is not None}, mistakes


def flag_parser(epilog: str = "") -> FlagParser:
    """Return the parser, whose help describes every setting."""
    parser = FlagParser(
        prog="volplug",
        usage="volplug COMMAND [--FLAG VALUE ...]",
        description="Docker volume plugin: block storage that follows your containers.",
        epilog=epilog,
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
