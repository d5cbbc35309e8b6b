"""volplug in a guest: the code of this repository, spoken to as dockerd does."""

import http.client
import io
import json
import socket
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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


def install_volplug(guest: Guest) -> None:
    """Copy the code into the guest."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(_REPOSITORY / "volplug", "volplug")
    guest.run(["mkdir", "-p", _SOURCE])
    guest.run(["tar", "-x", "-C", _SOURCE], input_bytes=archive.getvalue())


def spawn_python(guest: Guest, script: Path, *arguments: str, log: str) -> None:
    """Start a script of ours in the guest; it can import volplug."""
    guest.spawn([PYTHON, "-c", script.read_text(), *arguments], env=_ENVIRONMENT, log=log)


def run_python(guest: Guest, script: Path, *arguments: str) -> str:
    """Run a script of ours in the guest and return what it said."""
    return guest.run([PYTHON, "-c", script.read_text(), *arguments], env=_ENVIRONMENT)


class RefusedError(RuntimeError):
    """volplug answered with an error."""


class GuestVolplug:
    """``volplug serve`` in a guest.

    Args:
        guest: Where; volplug must be installed there.
        config: Its configuration file.
        env: Further variables.
    """

    def __init__(self, guest: Guest, config: str = "", env: Mapping[str, str] | None = None) -> None:
        self._guest = guest
        self._config = config
        self._env = {**_ENVIRONMENT, "VOLPLUG_LOG_LEVEL": "debug", **(env or {})}
        self._pid = 0

    def __enter__(self) -> Self:
        self._guest.run(["mkdir", "-p", str(Path(_CONFIG).parent)])
        self._guest.run(["tee", _CONFIG], input_bytes=self._config.encode())
        self._pid = self._guest.spawn([PYTHON, "-m", "volplug", "serve"], env=self._env, log=_LOG)
        wait_until(self._accepts, _START_TIMEOUT_S, "volplug accepts connections in the guest")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- volplug in {self._guest.instance_id} said\n{self.log}")  # noqa: T201 - pytest shows it
        self._guest.run(["sh", "-c", f"kill {self._pid} || true"])  # it may have ended
        wait_until(lambda: not self._is_running(), _STOP_TIMEOUT_S, "volplug ends in the guest")

    def call(self, verb: str, **body: object) -> dict[str, Any]:
        """Ask what dockerd asks, such as ``call("Mount", Name="db", ID="1")``; RefusedError if refused."""
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
        """What it has said."""
        return self._guest.run(["cat", _LOG])

    def _accepts(self) -> bool:
        try:
            self._guest.connect(_SOCKET).close()
        except RuntimeError as error:
            if not self._is_running():
                raise RuntimeError(f"volplug ended in the guest:\n{self.log}") from error
            return False
        return True

    def _is_running(self) -> bool:
        shown = self._guest.run(["sh", "-c", f"test -e /proc/{self._pid} && echo yes || echo no"])
        return shown.strip() == "yes"


class _Connection(http.client.HTTPConnection):
    """HTTP on a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("volplug", timeout=_ANSWER_TIMEOUT_S)
        connected.settimeout(_ANSWER_TIMEOUT_S)
        self.sock = connected
