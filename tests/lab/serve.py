"""`python -m tests.lab.serve --kill-at STEP[:N] ...`: serve, and die by SIGKILL at the Nth such step.

Nothing is cleaned up, as in a crash. Steps are the values of
`volplug.steps.WorldStep`; `--steps-to FILE` instead records them, one per line. With `--once FILE`, only
the start that creates FILE does so. All other options are those of `volplug serve`.

It is not shipped. A managed plugin under test gets this file alone, so it imports nothing else of the tests.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from volplug.__main__ import serving_settings
from volplug.app import run
from volplug.errors import VolplugError
from volplug.steps import WorldStep, unannounced

MODULE = "tests.lab.serve"


def dying_at(step: WorldStep, occurrence: int = 1) -> tuple[str, ...]:
    """The command of a volplug that kills itself at a step."""
    return (sys.executable, "-m", MODULE, "--kill-at", f"{step}:{occurrence}")


def noting_steps(file: Path) -> tuple[str, ...]:
    """The command of a volplug that records its steps."""
    return (sys.executable, "-m", MODULE, f"--steps-to={file}")


class KillAt:
    """Kills this process at the Nth occurrence of a step; steps come from several threads."""

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
                # pid_namespaces(7): the first process of a namespace, as in a plugin, cannot kill itself.
                os._exit(128 + signal.SIGKILL)


class Record:
    """Records the steps in a file; short appended lines are atomic."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __call__(self, step: WorldStep) -> None:
        """Record a step that has just happened."""
        os.write(self._file, f"{step}\n".encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kill-at", metavar="STEP[:N]", type=_kill_at, dest="on_step")
    what.add_argument("--steps-to", metavar="FILE", type=Record, dest="on_step")
    parser.add_argument("--once", metavar="FILE", type=Path)
    own, rest = parser.parse_known_args(arguments)
    on_step = own.on_step if own.once is None or _is_made(own.once) else unannounced
    try:
        run(serving_settings(rest), on_step)
    except VolplugError as error:
        sys.stderr.write(f"volplug: {error}\n")
        return 1
    return 0


def _kill_at(text: str) -> KillAt:
    name, _, occurrence = text.partition(":")
    return KillAt(WorldStep(name), int(occurrence or 1))


def _is_made(file: Path) -> bool:
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
