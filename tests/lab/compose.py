"""Docker Compose 1 and 2, each from a Debian release that has it, for any engine."""

import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab import systems, trees
from tests.lab.engine import Engine
from tests.lab.programs import checked, clean_environment

_CLIENT = Path(__file__).with_name("compose_client.sh")
_TIMEOUT_S = 300.0


def bookworm() -> Path:
    """The tree with Compose 1 and the packages of the todo list's images (todolist.py)."""
    return trees.tree("bookworm", ["docker-compose", "mariadb-server", "python3-pymysql"])


def _trixie() -> Path:
    return systems.system("trixie").root


@dataclass(frozen=True)
class Compose:
    """A version of Compose: its command, and the tree that it is in."""

    command: str
    tree: Callable[[], Path]

    def shell(
        self, engine: Engine, project: Path, script: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script in a project's directory, in this Compose's system and the engine's network."""
        # Not in the engine's mount namespace: a copy of that would keep the volumes mounted in it busy.
        enter = ["nsenter", f"--net={engine.path('/proc/1/ns/net')}"]
        enter += ["unshare", "--mount", "--propagation=private", "sh", str(_CLIENT)]
        host = f"unix://{engine.path('/run/docker.sock')}"
        return subprocess.run(
            [*enter, str(self.tree()), str(project), "sh", "-euc", script],
            env=clean_environment(DOCKER_HOST=host, DOCKER_CONFIG="/mnt/docker", **(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def __call__(self, engine: Engine, project: Path, *args: str) -> str:
        """Run Compose, which has to succeed, and return its output."""
        done = checked(self.shell(engine, project, shlex.join([*self.command.split(), *args])))
        return done.stdout + done.stderr

    def refusal(self, engine: Engine, project: Path, *args: str) -> str:
        """Run Compose, which has to fail, and return its output."""
        done = self.shell(engine, project, shlex.join([*self.command.split(), *args]))
        assert done.returncode != 0, done
        return done.stdout + done.stderr


COMPOSE_1 = Compose("docker-compose", bookworm)
COMPOSE_2 = Compose("docker compose", _trixie)
