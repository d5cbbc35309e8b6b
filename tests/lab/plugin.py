"""A volplug process under test, as a service next to a Docker Engine."""

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.lab.programs import settled, tail
from tests.lab.waiting import WaitTimeoutError, wait_until

SERVE = (sys.executable, "-m", "volplug", "serve")
_REPOSITORY = Path(__file__).parents[2]
_READY_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 15.0
_LONGEST_NAME = 22  # a longer one makes managed plugins' socket paths too long, so it is refused here, too


class Machine(Protocol):
    """The machine on which volplug runs: that of a private engine, or this one."""

    @property
    def directory(self) -> Path:
        """A directory for state and logs."""
        ...

    def path(self, inside: Path, /) -> Path:
        """The path from here of a path there."""
        ...

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program there."""
        ...


class VolplugProcess:
    """``volplug serve`` as a service next to an engine, to be started, stopped and killed at will.

    Attributes:
        name: the plugin's name in Docker, which is the name of its socket.
        driver: the driver that Docker shows for its volumes: the same.
        socket: the plugin socket as seen inside; ``engine.path(plugin.socket)`` reaches it from outside.
        state_dir: the state directory; kept until the engine's end, so a new start finds it.
        log: the file with the output of all starts.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        name: str = "volplug",
        socket: Path | None = None,
        state_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        argv: Sequence[str] = SERVE,
    ) -> None:
        """Describe a process; nothing runs before ``start`` or ``with``.

        It listens where Docker expects ``name``, unless ``socket`` is another path.
        """
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"plugin name {name!r} is longer than {_LONGEST_NAME} characters")
        self._machine = machine
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None
        self.name = self.driver = name
        self.socket = socket or Path(f"/run/docker/plugins/{name}.sock")
        self.state_dir = state_dir or machine.directory / name
        self.log = machine.directory / f"{name}.log"
        self._env = {
            "VOLPLUG_SOCKET": str(self.socket),
            "VOLPLUG_STATE_DIR": str(self.state_dir),
            "PYTHONPATH": str(_REPOSITORY),  # `argv` may name a module of the tests
            **(env or {}),
        }

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stderr.write(f"--- {self.name} wrote last:\n{tail(self.log)}\n")
            self.kill()
        else:
            self.stop()

    def start(self, env: Mapping[str, str] | None = None, argv: Sequence[str] | None = None) -> Self:
        """Start the process and wait until its socket accepts; RuntimeError with the log if it ends.

        Args:
            env: variables for this start only, on top of the others.
            argv: the command of this start.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self._process = self._machine.spawn(argv or self._argv, {**self._env, **(env or {})}, log=self.log)
        try:
            wait_until(self._accepts, _READY_TIMEOUT_S, f"{self.name} accepts connections")
        except WaitTimeoutError as error:
            raise RuntimeError(f"{error}; its output:\n{self.log_text}") from None
        return self

    def stop(self) -> int:
        """SIGTERM, as systemd would; return the exit code, 0 if it does not run."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, so that it cannot clean up."""
        return self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop it and start it again on the same state."""
        self.stop()
        return self.start()

    @property
    def mount_root(self) -> Path:
        """Below it are the mounts of volumes."""
        return self.state_dir / "mounts"

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return tail(self.log, lines)

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id, as seen from here."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def log_text(self) -> str:
        """The output of all its starts so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = settled(self._process, _STOP_TIMEOUT_S)
        self._process = None
        return code

    def _accepts(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"{self.name} ended with {code} while starting:\n{tail(self.log)}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(str(self._machine.path(self.socket)))
            except OSError:
                return False
        return True
