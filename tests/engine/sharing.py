"""An engine that tests share: each has to leave it empty; its logs are shown when one fails."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from tests.engine.use import RELEASE_TIMEOUT_S, volumes
from tests.lab import leftovers, loops
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug, Volplug
from tests.lab.programs import tail
from tests.lab.waiting import WaitTimeoutError, wait_until


def started(volplug: Volplug) -> Volplug:
    """Install and start volplug, which ends with its engine: stopping a shared one takes long."""
    if isinstance(volplug, ManagedVolplug):
        volplug.install()
    return volplug.start()


@contextmanager
def left_empty(engine: Engine, volplug: Volplug) -> Iterator[None]:
    """Fail the test in the block if it leaves anything in the engine, and empty it for the next one."""
    yield
    show_dockerd(engine)
    show_volplug(volplug)
    if not volplug.running:  # without it, Docker waits in vain for 15 s each time
        volplug.start()
    left = _everything_left(engine, volplug)
    if left:
        _remove_everything(engine)
    assert left == []


def show_dockerd(engine: Engine) -> None:
    """Show the warnings of dockerd, if the test fails."""
    _show("last warnings of dockerd", tail(engine.log, without="level=info"))


def show_volplug(volplug: Volplug) -> None:
    """Show the log of volplug, if the test fails."""
    _show("last output of volplug", volplug.log_tail())


def _show(what: str, text: str) -> None:
    # pytest keeps what is written here for the tests that failed.
    sys.stderr.write(f"--- {what}:\n{text}\n")


def _everything_left(engine: Engine, volplug: Volplug) -> list[str]:
    """Leftovers of tests in an engine: containers and volumes, and mounts and devices that stay."""
    containers = engine.docker("ps", "--all", "--format", "{{.Names}}").stdout.split()
    left = [f"container {name}" for name in containers] + [f"volume {name}" for name in volumes(engine)]
    held: list[str] = []

    def nothing_held() -> bool:
        held[:] = _held_now(engine, volplug)
        return not held or bool(left)

    try:
        wait_until(nothing_held, RELEASE_TIMEOUT_S, "nothing is mounted or attached")
    except WaitTimeoutError:
        return held
    return left + held


def _held_now(engine: Engine, volplug: Volplug) -> list[str]:
    places = leftovers.mounted_below(engine.directory, engine.path("/proc/1/mountinfo"))
    # dockerd binds its own directory and those of managed plugins onto themselves.
    held = [place for place in places if PurePath(place).name not in ("data", "propagated-mount")]
    return [f"mount {place}" for place in held] + [
        f"loop device {each.name} of {each.image}" for each in loops.attached_below(volplug.state_dir)
    ]


def _remove_everything(engine: Engine) -> None:
    """Empty an engine as far as that is possible, so that one failed test does not fail the next ones."""
    containers = engine.docker("ps", "--all", "--quiet").stdout.split()
    for command, names in (("rm", containers), ("volume rm", volumes(engine))):
        for name in names:
            engine.docker(*command.split(), "--force", name, check=False)
