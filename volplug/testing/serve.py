"""`python -m volplug.testing.serve --kill-at STEP[:N] ...`: serve, and die by SIGKILL at the Nth such step.

Everything after the first option is what `volplug serve` takes. Nothing is cleaned up and nobody is told:
that is what a crash is like. Steps are the values of `volplug.steps.WorldStep`.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m volplug.testing.serve")
    parser.add_argument("--kill-at", required=True, metavar="STEP[:N]")
    own, rest = parser.parse_known_args(arguments)
    name, _, occurrence = own.kill_at.partition(":")
    try:
        run(serving_settings(rest), KillAt(WorldStep(name), int(occurrence or 1)))
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
