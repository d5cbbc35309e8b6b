"""Docker commands and checks of engine tests."""

import json
from typing import Any

from tests.lab import leftovers, loops
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.waiting import wait_until

IMAGE = "busybox:local"
SMALL = ("--opt", "size=16MiB")
RELEASE_TIMEOUT_S = 20.0


def create(engine: Engine, name: str, *options: str) -> None:
    """Make a small volume of volplug."""
    engine.docker("volume", "create", "--driver=volplug", *SMALL, *options, name)


def run(engine: Engine, *options: str, script: str = "true", image: str = IMAGE) -> str:
    """Run a script in a container, remove the container after its end, and return the output."""
    return engine.output_of(*options, image=image, script=script)


def start(engine: Engine, name: str, *options: str, script: str = "exec sleep 1000") -> None:
    """Start a container that stays; it ends at once when it is stopped."""
    engine.docker(
        "run", "--detach", "--stop-timeout=0", f"--name={name}", *options, IMAGE, "sh", "-c", script
    )


def execute(engine: Engine, name: str, script: str) -> str:
    """Run a script in a running container."""
    return engine.docker("exec", name, "sh", "-c", script).stdout


def refusal(engine: Engine, *command: str) -> str:
    """Run a docker command that has to fail, and return the error that Docker shows."""
    result = engine.docker(*command, check=False)
    assert result.returncode != 0, result
    lines = [line for line in result.stderr.splitlines() if "Error response from daemon: " in line]
    assert len(lines) == 1, result
    return lines[0].partition("Error response from daemon: ")[2]


def is_no_such_volume(engine: Engine, command: str, name: str) -> bool:
    """Return whether a docker volume command reports that there is none; older clients have another text."""
    result = engine.docker("volume", command, name, check=False)
    output = (f"get {name}: no such volume\n", f"No such volume: {name}\n")
    return result.returncode != 0 and result.stderr.endswith(output)


def inspect(engine: Engine, kind: str, name: str) -> dict[str, Any]:
    """What `docker KIND inspect` shows of one object."""
    shown = json.loads(engine.docker(kind, "inspect", name).stdout)[0]
    assert isinstance(shown, dict)
    return shown


def volumes(engine: Engine) -> list[str]:
    """The names that `docker volume ls` shows, of all drivers."""
    return engine.docker("volume", "ls", "--quiet").stdout.split()


def mounted(engine: Engine, volplug: Volplug) -> list[str]:
    """What volplug has mounted."""
    places = leftovers.mounted_below(volplug.mount_root, engine.path("/proc/1/mountinfo"))
    # Those of a managed plugin are listed twice: once more below a mount of the engine's own.
    return list(dict.fromkeys(places))


def use_until_released(engine: Engine, volplug: Volplug, name: str) -> None:
    """Wait until volplug has released a volume with unconfirmed counts.

    A trial release before the last user has ended is retried after minutes, or after the next Unmount.
    """

    def is_released() -> bool:
        if mounted(engine, volplug):
            run(engine, "-v", f"{name}:/volume")
        return not mounted(engine, volplug)

    wait_until(is_released, RELEASE_TIMEOUT_S, f"{name} is not mounted")
    wait_until_released(engine, volplug)


def wait_until_released(engine: Engine, volplug: Volplug) -> None:
    """Wait until volplug has nothing mounted or attached any more."""

    def is_released() -> bool:
        return not mounted(engine, volplug) and not loops.attached_below(volplug.state_dir)

    wait_until(is_released, RELEASE_TIMEOUT_S, "nothing is mounted or attached")
