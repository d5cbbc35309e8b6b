"""Readable output: headlines, commands and their output, checks."""

import os
import shlex
from collections.abc import Sequence
from typing import TextIO

_BOLD, _DIM, _GREEN, _RED, _PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m"


class Printer:
    """Prints the demo; colours only on a terminal, and not where NO_COLOR is set."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colours = out.isatty() and not os.environ.get("NO_COLOR")

    def headline(self, text: str) -> None:
        """Begin a step."""
        self._print(f"\n{self._in(_BOLD, text)}")

    def command(self, argv: Sequence[str], background: bool = False) -> None:
        """Show a command as one would type it."""
        self._print(self._in(_DIM, f"  $ {shlex.join(argv)}{' &' if background else ''}"))

    def answer(self, text: str) -> None:
        """Show the output of a command."""
        for line in text.rstrip().splitlines():
            self._print(f"  {line.rstrip()}")

    def check(self, text: str) -> None:
        """Show a passed check."""
        self._print(f"  {self._in(_GREEN, 'ok')}: {text}")

    def failure(self, text: str) -> None:
        """Show a failure."""
        self._print(f"\n{self._in(_RED, 'FAILED')}: {text}")

    def text(self, text: str) -> None:
        """Show a text."""
        self._print(text)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text

    def _print(self, text: str) -> None:
        # At once: in a pipe the output of other programs would overtake ours.
        self._out.write(f"{text}\n")
        self._out.flush()
