"""A Docker Engine in a guest, and the managed plugin as `make plugin` builds it."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.images import import_image
from tests.lab.managed import LARGE, as_tested
from tests.lab.programs import CommandError
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest

_LOG = "/run/dockerd.log"
_START_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 120.0
_COMMAND_TIMEOUT_S = 600.0
_DOCKERD = ["dockerd", "--storage-driver=overlay2", "--exec-opt=native.cgroupdriver=cgroupfs"]
_NO_NETWORK = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
_BUILT = "/media"
_PLUGIN = "/run/plugin"


class GuestEngine:
    """dockerd in a guest whose image has it.

    Args:
        guest: The guest.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._pid = 0

    def __enter__(self) -> Self:
        # Docker mounts them in what uses the host's network.
        self._guest.run(["touch", "/etc/hosts", "/etc/resolv.conf"])
        self._guest.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])
        self._pid = self._guest.spawn([*_DOCKERD, *_NO_NETWORK], log=_LOG)
        wait_until(self._answers, _START_TIMEOUT_S, "dockerd answers in the guest")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- dockerd in {self._guest.instance_id}\n{self.log}")  # noqa: T201 - pytest shows it
        self._guest.run(["sh", "-c", f"kill {self._pid}"])
        wait_until(
            lambda: not self._guest.is_running(self._pid), _STOP_TIMEOUT_S, "dockerd ends in the guest"
        )
        self._guest.run(["umount", "/sys/fs/cgroup"])

    def docker(self, *args: str, input: bytes | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002 - as subprocess calls it
        """Run the docker command in the guest; CommandError if it fails."""
        argv = ["docker", *args]
        output = self._guest.run(argv, input_bytes=input or b"", timeout_s=_COMMAND_TIMEOUT_S)
        return subprocess.CompletedProcess(argv, 0, output, "")

    def import_busybox(self) -> str:
        """Make an image of busybox; return its name."""
        return import_image(self.docker, "busybox:local", {})

    @property
    def log(self) -> str:
        """The log of dockerd, with that of its plugins."""
        return self._guest.read(_LOG)

    def _answers(self) -> bool:
        try:
            with self._guest.connect("/run/docker.sock") as connection:
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(256)
        except RuntimeError as error:
            if not self._guest.is_running(self._pid):
                raise RuntimeError(f"dockerd ended in the guest:\n{self.log}") from error
            return False


class GuestPlugin:
    """The managed plugin in a guest: as shipped, but for large directories, which are mounts of the build.

    Docker would take minutes to pack and unpack them here.

    Args:
        engine: Where it is installed.
        guest: The engine's guest.
        device: A disk with what `make plugin` built.
    """

    def __init__(self, engine: GuestEngine, guest: Guest, device: str) -> None:
        self._engine = engine
        self._guest = guest
        self._device = device

    def install(self, *settings: str) -> None:
        """Create, set and enable it."""
        run = self._guest.run
        run(["mkdir", "-p", _BUILT, *(f"{_PLUGIN}/rootfs/{each}" for each in LARGE)])
        run(["mount", "-o", "ro", self._device, _BUILT])
        left_out = " ".join(f"--exclude=./{each}" for each in LARGE)
        run(["sh", "-c", f"tar -c -C {_BUILT}/rootfs {left_out} . | tar -x -C {_PLUGIN}/rootfs"])
        shipped = json.loads(self._guest.read(f"{_BUILT}/config.json"))
        mounts = as_tested(shipped, {Path(_BUILT) / "rootfs" / each: f"/{each}" for each in LARGE})["mounts"]
        run(["tee", f"{_PLUGIN}/config.json"], input_bytes=json.dumps({**shipped, "mounts": mounts}).encode())
        self._engine.docker("plugin", "create", "volplug", _PLUGIN)
        self._engine.docker("plugin", "set", "volplug", *settings)
        self.start()

    def start(self) -> None:
        """Enable it: dockerd gives it 12 s, in which an emulated processor may not load it from the disk."""
        wait_until(self._is_enabled, _START_TIMEOUT_S, "the plugin is enabled in the guest")

    def stop(self) -> None:
        """Disable it, even if it is in use."""
        self._engine.docker("plugin", "disable", "--force", "volplug")

    def remove(self) -> None:
        """Disable and remove it, with its state."""
        self.stop()
        self._engine.docker("plugin", "rm", "--force", "volplug")
        self._guest.run(["umount", _BUILT])
        self._guest.run(["rm", "-r", _PLUGIN, "/var/lib/volplug"])

    def _is_enabled(self) -> bool:
        try:
            self._engine.docker("plugin", "enable", "--timeout=120", "volplug")
        except CommandError as error:
            if "connect: no such file or directory" not in str(error):
                raise
            return False
        return True
