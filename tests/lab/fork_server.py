"""Starts volplug by forking a process that has loaded it already, which is a fifth of the work.

    with ForkServer() as server:
        process = server.start([sys.executable, "-m", "volplug", "serve"], env, log)
        machine = server.machine_of(host.engine)  # forks into the namespaces of that machine

For tests that do not test the loading of modules. The forked process is like any other, with an environment,
a log and an exit code of its own; only its command line in /proc is the fork server's.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from tests.lab import serve
from tests.lab.engine import Engine
from tests.lab.programs import clean_environment, settled

_MAIN = Path(__file__).with_name("fork_server_main.py")
_REPOSITORY = Path(__file__).parents[2]
_END_TIMEOUT_S = 10.0


class ForkServer:
    """The process that forks. Any thread may use it.

    Args:
        driver: A driver of a cloud whose SDK it has loaded, too, which takes as long as everything else.
    """

    def __init__(self, *, driver: str = "") -> None:
        """Describe the server; nothing runs before ``with``."""
        self._options = [driver] if driver else []

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._connection, theirs = socket.socketpair()
        self._lines = self._connection.makefile("rw")
        with theirs:
            # -P: files in its directory must not shadow modules.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_MAIN), *self._options],
                stdin=theirs.fileno(),
                env=clean_environment(PYTHONPATH=str(_REPOSITORY)),  # for `tests.lab.serve`
                cwd="/",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._connection.close()
        settled(self._process, _END_TIMEOUT_S)

    @staticmethod
    def can_start(argv: Sequence[str]) -> bool:
        """Return whether a command runs a module of volplug, or tests.lab.serve."""
        is_module = list(argv[:2]) == [sys.executable, "-m"]
        return is_module and (argv[2] == serve.MODULE or argv[2].partition(".")[0] == "volplug")

    def start(
        self, argv: Sequence[str], env: Mapping[str, str], log: Path, *, first_pid: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Fork a process that runs a command.

        Args:
            argv: The command, one for which ``can_start`` is true.
            env: All of its environment.
            log: The file that its output is appended to.
            first_pid: A process whose namespaces it runs in; None for those of the fork server.
        """
        forked = self.ask("start", first_pid=first_pid, argv=list(argv), env=dict(env), log=str(log))
        # It is not our child, but has the methods that are used of volplug's process.
        return cast(subprocess.Popen[bytes], _Forked(self, forked["pid"], argv))

    def machine_of(self, engine: Engine) -> "ForkingMachine":
        """Return the machine of an engine, which forks programs there."""
        return ForkingMachine(self, engine)

    def ask(self, action: str, **arguments: object) -> dict[str, Any]:
        """Send a request to the process, and return its answer."""
        with self._lock:
            self._lines.write(json.dumps({"do": action, **arguments}) + "\n")
            self._lines.flush()
            line = self._lines.readline()
        if not line:
            raise RuntimeError("the fork server has ended")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        if "error" in answer:
            raise RuntimeError(f"fork server, {action}: {answer['error']}")
        return answer


class ForkingMachine:
    """See `tests.lab.plugin.Machine`; the programs are modules of Python."""

    def __init__(self, server: ForkServer, engine: Engine) -> None:
        self._server = server
        self._engine = engine

    @property
    def directory(self) -> Path:
        """A directory for state and logs."""
        return self._engine.directory

    def path(self, inside: Path) -> Path:
        """The path from here of a path there."""
        return self._engine.path(inside)

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program there."""
        log = log or self._engine.directory / "spawned.log"
        environment = clean_environment(**(env or {}))
        return self._server.start(argv, environment, log, first_pid=self._engine.first_pid)


class _Forked:
    """A program that the fork server has started; its methods are those of Popen."""

    def __init__(self, server: ForkServer, pid: int, argv: Sequence[str]) -> None:
        self._server = server
        self.pid = pid
        self.args = list(argv)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask("poll", pid=self.pid)["code"]
        return self.returncode

    def send_signal(self, number: int) -> None:
        self._server.ask("signal", pid=self.pid, number=number)
