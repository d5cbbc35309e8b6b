"""The plugins that are measured: volplug and rclone, driven over their sockets."""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from benchmarks.client import CallError, PluginClient
from tests.lab.plugin import Machine, VolplugProcess
from tests.lab.programs import settled, tail
from tests.lab.waiting import wait_until

VOLUME_SIZE = "16MiB"
# The lists are of more sparse volumes than the disk has room for.
_CONFIG = '[backends.loop]\ndriver = "loop"\novercommit = 1e6\n'
_READY_TIMEOUT_S = 45.0  # with 10,000 volumes it is slow to start
_STOP_TIMEOUT_S = 5.0
_CALL_TIMEOUT_S = 3.0
_DETACH_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 0.0001


class Plugin(Protocol):
    """A running plugin process."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def connect(self) -> PluginClient:
        """A connection to it."""
        ...

    def create(self, client: PluginClient, name: str) -> None:
        """Make a volume."""
        ...


class Volplug:
    """`volplug serve` with loop volumes."""

    def __init__(self, machine: Machine, name: str, env: Mapping[str, str] | None = None) -> None:
        socket = machine.directory / f"{name}.sock"
        config = machine.directory / f"{name}.toml"
        config.write_text(_CONFIG)
        # A minute after each start comes one search; here it comes earlier, before the idle measurement.
        settings = {"VOLPLUG_MOUNT_GRACE_S": "1", "VOLPLUG_CONFIG": str(config), **(env or {})}
        self.process = VolplugProcess(machine, name=name, socket=socket, env=settings)
        self.images = self.process.state_dir / "backends" / "loop"

    def __enter__(self) -> Self:
        self.process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """See `Plugin`."""
        return self.process.pid

    def connect(self) -> PluginClient:
        """See `Plugin`."""
        return PluginClient(self.process.socket)

    def create(self, client: PluginClient, name: str) -> None:
        """See `Plugin`."""
        client.call("Create", Name=name, Opts={"size": VOLUME_SIZE})

    def image(self, name: str) -> Path:
        """The image of a volume."""
        return self.images / f"{name}.img"

    def wait_until_detached(self, name: str) -> None:
        """Wait until the kernel has released the image: the loop device carries a lock on it."""
        deadline = time.monotonic() + _DETACH_TIMEOUT_S
        descriptor = os.open(self.image(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while not _is_unlocked(descriptor):
                if time.monotonic() > deadline:
                    raise CallError(f"{name} was not detached within {_DETACH_TIMEOUT_S:g} s")
                time.sleep(_LOOK_EVERY_S)
        finally:
            os.close(descriptor)


def _is_unlocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Rclone:
    """`rclone serve docker` with directories of this machine as its remotes."""

    STATE = "docker-plugin.state"

    def __init__(self, machine: Machine, name: str = "rclone", socket: Path | None = None) -> None:
        self._machine = machine
        self._process: subprocess.Popen[bytes] | None = None
        self._log = machine.directory / f"{name}.log"
        self.socket = socket or machine.directory / f"{name}.sock"
        self.home = machine.directory / name
        self.cache = self.home / "cache"
        self._remotes = self.home / "remotes"
        self.base = self.home / "base"
        for directory in (self.cache, self._remotes, self.base):
            directory.mkdir(parents=True)
        (self.home / "rclone.conf").touch()

    @staticmethod
    def why_not_here() -> str:
        """Return why it cannot be measured on this machine; empty if it can."""
        missing = [each for each in ("rclone", "fusermount") if shutil.which(each) is None]
        return f"{' and '.join(missing)} not installed (scripts/system-packages bench)" if missing else ""

    def argv(self) -> list[str]:
        """The command that serves."""
        return [
            *("rclone", "serve", "docker", "--socket-addr", str(self.socket), "--base-dir", str(self.base)),
            *("--cache-dir", str(self.cache), "--config", str(self.home / "rclone.conf")),
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self._process = self._machine.spawn(self.argv(), log=self._log)
        try:
            wait_until(self._accepts, _READY_TIMEOUT_S, "rclone accepts connections")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; kill it if it hangs."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            settled(self._process, _STOP_TIMEOUT_S)
        self._process = None

    @property
    def pid(self) -> int:
        """See `Plugin`."""
        assert self._process is not None, "rclone was not started"
        return self._process.pid

    def connect(self) -> PluginClient:
        """See `Plugin`; the time-out is short because calls may hang."""
        return PluginClient(self._machine.path(self.socket), _CALL_TIMEOUT_S)

    def create(self, client: PluginClient, name: str) -> None:
        """See `Plugin`."""
        client.call("Create", Name=name, Opts=self.options(name))

    def options(self, name: str) -> dict[str, str]:
        """The options of Create for a volume: a directory of its own."""
        remote = self._remotes / name
        remote.mkdir(exist_ok=True)
        return {"remote": str(remote)}

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"rclone ended while starting:\n{tail(self._log)}")
        try:
            self.connect().close()
        except OSError:
            return False
        return True
