"""Runs programs that only read, for `volplug logs bundle`.

What `volplug serve` runs may change the world and must not be killed halfway: that is for `host/process.py`,
which keeps only the ends of what a program prints.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

_LONGEST_S: Final = 120.0  # a week of journal on a slow disk


def output_of(argv: Sequence[str]) -> bytes:
    """Return what a program prints, complaints included.

    Raises:
        OSError: If it cannot be run, or does not end.
    """
    try:
        done = subprocess.run(  # noqa: S603  # an argument vector, never a shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{argv[0]} has not ended within {error.timeout:g} s") from error
    return done.stdout
