"""Where a command writes: what is a terminal, how wide, and whether in colours."""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import Final

_COLUMNS_BY_DEFAULT: Final = (80, 24)


class Terminal:
    """Standard output and standard error of a command. Neither needs to be a terminal."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # not every locale has every character

    @property
    def width(self) -> int | None:
        """Return how many characters a line of the output may have; None where it is read by a program."""
        return shutil.get_terminal_size(_COLUMNS_BY_DEFAULT).columns if sys.stdout.isatty() else None

    @property
    def is_coloured(self) -> bool:
        """Tell whether the output may have colours; see https://no-color.org."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def is_watched(self) -> bool:
        """Tell whether progress can be shown in place."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def write(self, line: str) -> None:
        """Write to the output, at once: events are read as they come."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def tell(self, line: str) -> None:
        """Write what is no result."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
