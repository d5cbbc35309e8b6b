"""Volplug processes that are forked from one which has imported everything, instead of started.

Imports are nearly all of what a start costs. A forked process is a process as any other: it has a pid, an
environment, a log and an exit code of its own; only its command line in /proc is the fork server's. How
volplug starts is the subject of test_life.py.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SERVE = "volplug"
SERVE_AND_DIE = "volplug.testing.serve"
LONGEST_MESSAGE = 2**18
_ROOT = Path(__file__).parents[2]
_END_TIMEOUT_S = 10.0


class ForkServer:
    """The process that forks (fork_server_main.py); it runs within a ``with`` block."""

    def __enter__(self) -> Self:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-m", "tests.served.fork_server_main"]
            self._process = subprocess.Popen(argv, stdin=theirs.fileno(), cwd=_ROOT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.close()
        self._process.wait(_END_TIMEOUT_S)

    @staticmethod
    def can_fork(argv: Sequence[str]) -> bool:
        """Tell whether a command runs one of the modules that are imported."""
        return tuple(argv[:2]) == (sys.executable, "-m") and argv[2] in {SERVE, SERVE_AND_DIE}

    def fork(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> "ForkedProcess":
        """Fork a process that does what a command does.

        Args:
            argv: The command, one for which ``can_fork`` is true.
            env: The environment of the process, all of it.
            log: The file that its output is appended to.
        """
        _, _, module, *arguments = argv
        pid = self._ask({"module": module, "arguments": arguments, "env": dict(env), "log": str(log)})
        assert pid is not None
        return ForkedProcess(self, argv, pid)

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a forked process, None while it runs; once returned, the pid is free."""
        return self._ask({"pid": pid})

    def _ask(self, request: Mapping[str, object]) -> int | None:
        self._requests.send(json.dumps(request).encode())
        reply = self._requests.recv(LONGEST_MESSAGE)
        assert reply, "the fork server has ended"
        number = json.loads(reply)
        assert number is None or isinstance(number, int)
        return number


class ForkedProcess:
    """A forked process, with what VolplugProcess needs of a ``subprocess.Popen``."""

    def __init__(self, server: ForkServer, args: Sequence[str], pid: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
