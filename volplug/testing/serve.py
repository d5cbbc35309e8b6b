"""`python -m volplug.testing.serve --kill-at STEP[:N] ...`: serve, and die by SIGKILL at the Nth such step.

Nothing is cleaned up and nobody is told: that is what a crash is like. Steps are the values of
`volplug.steps.WorldStep`; `--steps-to FILE` instead writes them down, one a line. Everything after the first
option is what `volplug serve` takes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from volplug.__main__ import serving_settings
from volplug.app import run
from volplug.errors import VolplugError
from volplug.steps import WorldStep


class KillAt:
    """Kills this process when a step has happened so many times; steps come from several threads."""

    def __init__(self, step: WorldStep, occurrence: int) -> None:
        self._step = step
        self._left = occurrence
        self._lock = threading.Lock()

    def __call__(self, step: WorldStep) -> None:
        """Count a step that has just happened."""
        if step is not self._step:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Record:
    """Writes down the steps; a short line appended to a file is never torn."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __call__(self, step: WorldStep) -> None:
        """Note a step that has just happened."""
        os.write(self._file, f"{step}\n".encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m volplug.testing.serve")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kill-at", metavar="STEP[:N]", type=_kill_at, dest="on_step")
    what.add_argument("--steps-to", metavar="FILE", type=Record, dest="on_step")
    own, rest = parser.parse_known_args(arguments)
    try:
        run(serving_settings(rest), own.on_step)
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 1
    return 0


def _kill_at(text: str) -> KillAt:
    name, _, occurrence = text.partition(":")
    return KillAt(WorldStep(name), int(occurrence or 1))


if __name__ == "__main__":
    sys.exit(main())
