"""`make demo`: the main job of volplug on a real Docker Engine, checked step by step.

Every step prints a headline, the commands as one would type them, their output, and what was
checked. A failed check ends the demo with exit code 1; nothing is left over in either case.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from tests.lab import lane, leftovers
from tests.lab.demo_steps import STEPS, Stage, Step, StepError
from tests.lab.engine import Engine
from tests.lab.hostengine import HostEngine, NotUsableError
from tests.lab.plugin import SERVE, VolplugProcess
from tests.lab.printing import Printer
from tests.lab.programs import CommandError, tail


def main(steps: Sequence[Step] = STEPS, argv: Sequence[str] = SERVE) -> int:
    """Play the demo; return the exit code."""
    show = Printer(sys.stdout)
    if os.geteuid() != 0:
        show.failure("the demo needs root: it starts a Docker Engine and mounts volumes.")
        return 2
    signal.signal(signal.SIGTERM, _exit_in_order)
    with lane.without_namespaces():
        before = leftovers.snapshot()
        code = _play(show, steps, argv)
        return max(code, _show_leftovers(show, before))


def _play(show: Printer, steps: Sequence[Step], argv: Sequence[str]) -> int:
    try:
        with HostEngine() if os.environ.get("ENGINE") == "host" else Engine() as engine:
            _play_on(engine, show, steps, argv)
    except NotUsableError as error:
        show.failure(f"ENGINE=host, but {error}")
        return 2
    except (StepError, CommandError, RuntimeError) as error:
        show.failure(str(error))
        return 1
    except KeyboardInterrupt:
        show.failure("interrupted")
        return 130
    return 0


def _play_on(engine: Engine | HostEngine, show: Printer, steps: Sequence[Step], argv: Sequence[str]) -> None:
    with ExitStack() as stack:
        volplug = VolplugProcess(engine, argv=argv)
        stack.callback(volplug.stop)
        stack.callback(_tidy, engine, volplug, show)
        stage = Stage(engine, volplug, show)
        try:
            for number, step in enumerate(steps, start=1):
                show.headline(f"{number}. {step.title}")
                step.play(stage)
        except (StepError, CommandError, RuntimeError):
            show.text(f"The last lines of volplug's log:\n{tail(volplug.log)}")
            raise


def _tidy(engine: Engine | HostEngine, volplug: VolplugProcess, show: Printer) -> None:
    if isinstance(engine, Engine):
        return  # everything in it ends with it
    try:
        # Removing volumes needs a running volplug; a step may have failed while there was none.
        if not volplug.running:
            volplug.start()
        engine.tidy()
    except (CommandError, RuntimeError) as error:
        show.failure(f"cleaning up on the machine's engine: {error}")
    show.text(
        "\nNote: a Docker Engine that has used a plugin remembers it. Until volplug serves again\n"
        "or the engine is restarted, `docker volume ls` waits 15 seconds for it."
    )


def _show_leftovers(show: Printer, before: leftovers.Snapshot) -> int:
    show.headline("What is left over")
    left = leftovers.settled_difference(before)
    if left:
        show.failure("these are left over on the machine:\n  " + "\n  ".join(left))
        return 1
    show.check(
        "nothing: mounts, loop devices, namespaces, processes, plugin sockets, control groups as before"
    )
    return 0


def _exit_in_order(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
