"""volplug in a guest: the code of this repository, called as by dockerd."""

import compileall
import http.client
import io
import json
import shutil
import socket
import tarfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.image import PACKAGES

PYTHON = "/usr/bin/python3"
_REPOSITORY = Path(__file__).parents[2]
_SOURCE = "/opt/source"
_ENVIRONMENT = {"PYTHONPATH": f"{_SOURCE}:{PACKAGES}"}
_SOCKET = "/run/docker/plugins/volplug.sock"
_LOG = "/run/volplug.log"
_CONFIG = "/etc/volplug/config.toml"
_START_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 180.0


def install_volplug(guests: Collection[Guest], scratch: Path) -> None:
    """Copy volplug and its dependencies into guests, compiled here: an emulated processor is slow."""
    copy = scratch / "source"
    left_out = shutil.ignore_patterns("__pycache__", "testing")
    shutil.copytree(_REPOSITORY / "volplug", copy / "volplug", ignore=left_out)
    compileall.compile_dir(copy, quiet=1, stripdir=copy, prependdir=_SOURCE)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(copy, _SOURCE)

    def install(guest: Guest) -> None:
        guest.run(["tar", "-x", "-C", "/"], input_bytes=archive.getvalue())

    with ThreadPoolExecutor(len(guests)) as threads:
        list(threads.map(install, guests))


def spawn_python(guest: Guest, script: Path, *arguments: str, log: str) -> None:
    """Start a script of ours in the guest; it can import volplug."""
    guest.spawn([PYTHON, "-c", script.read_text(), *arguments], env=_ENVIRONMENT, log=log)


def run_python(guest: Guest, script: Path, *arguments: str) -> str:
    """Run a script of ours in the guest and return its output; it can import volplug."""
    return guest.run([PYTHON, "-c", script.read_text(), *arguments], env=_ENVIRONMENT)


class RefusedError(RuntimeError):
    """volplug answered with an error."""


class GuestVolplug:
    """``volplug serve`` in a guest.

    Args:
        guest: The guest; volplug must be installed there.
        env: Its settings as variables.
    """

    def __init__(self, guest: Guest, env: Mapping[str, str]) -> None:
        self._guest = guest
        self._env = {**_ENVIRONMENT, "VOLPLUG_LOG_LEVEL": "debug", **env}
        self._config = ""
        self._pid = 0

    def start(self, config: str) -> None:
        """Start it with a configuration file; a running one is stopped first."""
        if self._pid and config == self._config:
            return
        self.stop()
        self._config = config
        self._guest.run(["mkdir", "-p", str(Path(_CONFIG).parent)])
        self._guest.run(["tee", _CONFIG], input_bytes=config.encode())
        self._pid = self._guest.spawn([PYTHON, "-m", "volplug", "serve"], env=self._env, log=_LOG)

    def await_ready(self) -> None:
        """Wait until it accepts connections, and its cloud has answered it once.

        The first call loads the SDK, which takes an emulated processor longer than Create waits.
        """
        where = self._guest.instance_id
        wait_until(self._accepts, _START_TIMEOUT_S, f"volplug accepts connections in {where}")
        wait_until(self._has_reached_its_cloud, _START_TIMEOUT_S, f"volplug reaches its cloud in {where}")

    def stop(self) -> None:
        """SIGTERM, as systemd would; nothing happens if it has ended."""
        if self._pid:
            self._guest.run(["sh", "-c", f"kill {self._pid} || true"])
            where = f"volplug ends in {self._guest.instance_id}"
            wait_until(lambda: not self._guest.is_running(self._pid), _STOP_TIMEOUT_S, where)
            self._pid = 0

    def show_log(self) -> None:
        """Print its log, which pytest shows if a test fails."""
        print(f"--- volplug in {self._guest.instance_id}, log\n{self.log}")  # noqa: T201

    def call(self, verb: str, **body: object) -> dict[str, Any]:
        """Call it as dockerd does, such as ``call("Mount", Name="db", ID="1")``; RefusedError if refused."""
        connection = _Connection(self._guest.connect(_SOCKET))
        try:
            connection.request("POST", f"/VolumeDriver.{verb}", json.dumps(body))
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert isinstance(answer, dict)
        if answer.get("Err"):
            raise RefusedError(f"{verb} {body}: {answer['Err']}")
        return answer

    @property
    def log(self) -> str:
        """Its log."""
        return self._guest.read(_LOG)

    def _accepts(self) -> bool:
        try:
            self._guest.connect(_SOCKET).close()
        except RuntimeError as error:
            if not self._guest.is_running(self._pid):
                raise RuntimeError(f"volplug ended in the guest:\n{self.log}") from error
            return False
        return True

    def _has_reached_its_cloud(self) -> bool:
        try:
            self.call("Get", Name="nothing")
        except http.client.RemoteDisconnected:  # its answer if it does not know whether the volume exists
            return False
        except RefusedError:
            return True
        raise AssertionError("there is a volume of this name")


class _Connection(http.client.HTTPConnection):
    """HTTP on a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("volplug", timeout=_ANSWER_TIMEOUT_S)
        connected.settimeout(_ANSWER_TIMEOUT_S)
        self.sock = connected
