"""A private, real Docker Engine for tests and the demo.

    with Engine() as engine:
        engine.import_busybox()
        engine.docker("run", "--rm", "busybox:local", "echo", "hello")

Several engines can run at the same time. Leaving the block ends everything that ran in it and removes
everything it made, whether or not the block, or the start itself, failed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import cgroups, images, lane, loops
from tests.lab.namespaces import Namespaces
from tests.lab.programs import checked, clean_environment, find_program, settled, tail
from tests.lab.systems import System
from tests.lab.waiting import wait_until

_SOCKET = "/run/docker.sock"
_PIDFILE = "/run/docker.pid"
_CONTAINERD_PIDFILE = "/run/docker/containerd/containerd.pid"
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_ID_LENGTH = 64
_NO_NETWORK = ["--bridge=none", "--iptables=false", "--ip6tables=false"]


class Engine:
    """One dockerd with its own /run, network, data directory and processes.

    Attributes:
        directory: a directory of this engine's own on a real disk, removed at the end; tests may
            keep the state of their plugins in it.
        reclaimed: loop devices that ``close`` found attached to images below ``directory``
            (the backing files); empty if the plugin under test cleaned up after itself.
        files: content of files of this machine inside, from the next ``power_on`` on.
    """

    def __init__(
        self,
        *,
        extra_args: Sequence[str] = (),
        live_restore: bool = False,
        system: System | None = None,
        own_network: bool = True,
        files: Mapping[str, str] | None = None,
        hostname: str = "",
    ) -> None:
        """Describe an engine; nothing runs before ``start`` or ``with``.

        Args:
            extra_args: further arguments of dockerd.
            live_restore: containers survive the end of dockerd.
            system: another system, in which dockerd and all other programs run instead of in this
                machine's.
            own_network: without it, programs inside, such as the steps of an image's build, see this
                machine's network.
            files: content of files of this machine inside (path to text).
            hostname: the name of the machine inside; by default as outside.
        """
        self._extra_args = [*extra_args, *(["--live-restore"] if live_restore else [])]
        self._system = system
        self._own_network = own_network
        self._hostname = hostname
        self.files = dict(files or {})
        self._namespaces: Namespaces | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self._storage_driver = ""
        self._directory: Path | None = None
        self.reclaimed: list[str] = []

    # Start and end

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._directory is not None:
            sys.stderr.write(f"--- last warnings of dockerd:\n{tail(self.log, without='level=info')}\n")
        self.close()

    def start(self) -> None:
        """Start dockerd and wait until it answers; also after ``stop`` and ``kill``."""
        self.power_on()
        assert self._namespaces is not None
        with self.log.open("ab") as log:
            self._dockerd = self._namespaces.popen(
                self._dockerd_command(), env=clean_environment(), stdout=log, stderr=log
            )
        wait_until(self._answers, _READY_TIMEOUT_S, "dockerd answers")

    def power_on(self) -> None:
        """Make the machine, if there is none, without dockerd; ``start`` includes this."""
        if self._namespaces is not None:
            return
        if self._directory is None:
            self._make_directory()
        self._namespaces = Namespaces(
            self.directory, self._system, own_network=self._own_network, hostname=self._hostname
        )
        for place, text in self.files.items():
            (self.directory / Path(place).name).write_text(text)
            self.run(["mount", "--bind", str(self.directory / Path(place).name), place], check=True)
        self._storage_driver = self._storage_driver or ("overlay2" if self._overlay_works() else "vfs")

    def power_off(self) -> None:
        """Cut the power: processes, mounts and loop devices are gone at once, the directory stays."""
        namespaces, self._namespaces, self._dockerd = self._namespaces, None, None
        if namespaces is not None:
            namespaces.close()
            loops.detach_below(self.directory)

    def stop(self) -> None:
        """End dockerd as an administrator would, and wait for it; containers stop unless live_restore."""
        if self._dockerd is not None:
            self._dockerd.terminate()
            settled(self._dockerd, _STOP_TIMEOUT_S)
            self._dockerd = None

    def kill(self) -> None:
        """SIGKILL dockerd; containers continue to run. ``start`` starts it again."""
        if self._dockerd is None:
            return
        containerd = self._containerd()
        self._dockerd.kill()
        settled(self._dockerd, _STOP_TIMEOUT_S)
        self._dockerd = None
        # A dockerd refuses to start over a pid file of its predecessor whose number is in use, and
        # over a containerd that is still ending (the kernel ends it with its dockerd).
        self.path(_PIDFILE).unlink(missing_ok=True)
        if containerd is not None:
            wait_until(lambda: not containerd.exists(), _STOP_TIMEOUT_S, "containerd ended with its dockerd")

    def restart(self) -> None:
        """Stop dockerd and start it again with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End and remove everything; nothing inside can clean up. May be called twice."""
        try:
            if self._namespaces is not None:
                self._namespaces.close()
        finally:
            self._namespaces = self._dockerd = None
            directory, self._directory = self._directory, None
            if directory is not None:
                self.reclaimed += loops.detach_below(directory)
                cgroups.remove(directory.name)
                cgroups.remove_of_plugins(_plugin_ids(directory / "data"))
                shutil.rmtree(directory)

    def _make_directory(self) -> None:
        self._directory = lane.new_directory()
        # dockerd with --userns-remap gives other users access to its data.
        self.directory.chmod(0o711)
        (self.directory / "daemon.json").write_text("{}")
        (self.directory / "cli").mkdir()

    def _overlay_works(self) -> bool:
        parts = {name: self.directory / "probe" / name for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir(parents=True)
        options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
        merged = str(parts["merged"])
        works = self.run(["mount", "-t", "overlay", "-o", options, "overlay", merged]).returncode == 0
        if works:
            self.run(["umount", merged])
        shutil.rmtree(self.directory / "probe")
        return works

    def _dockerd_command(self) -> list[str]:
        own = ["--data-root", str(self.directory / "data"), "--exec-root", "/run/docker"]
        own += ["--pidfile", _PIDFILE, "-H", f"unix://{_SOCKET}"]
        own += ["--config-file", str(self.directory / "daemon.json")]
        own += ["--storage-driver", self._storage_driver]
        # Not through systemd, which does not know our namespaces.
        own += ["--exec-opt", "native.cgroupdriver=cgroupfs"]
        own += ["--cgroup-parent", f"/{cgroups.PARENT}/{self.directory.name}"]
        return [self._program("dockerd"), *own, *_NO_NETWORK, *self._extra_args]

    def _program(self, name: str) -> str:
        return name if self._system else find_program(name)

    def _answers(self) -> bool:
        if self._dockerd is None or self._dockerd.poll() is not None:
            raise RuntimeError(f"dockerd ended while starting:\n{tail(self.log)}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.path(_SOCKET)))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in client.recv(256)
            except OSError:
                return False

    def _containerd(self) -> Path | None:
        """The /proc directory of the containerd that belongs to this dockerd."""
        try:
            pid = self.path(_CONTAINERD_PIDFILE).read_text().strip()
        except FileNotFoundError:
            return None
        return self.path(f"/proc/{pid}")

    # Use

    @property
    def directory(self) -> Path:
        """This engine's own directory, the same path inside and outside."""
        assert self._directory is not None, "the engine was not started"
        return self._directory

    @property
    def log(self) -> Path:
        """The log file of dockerd."""
        return self.directory / "dockerd.log"

    @property
    def log_text(self) -> str:
        """The log of dockerd so far."""
        return self.log.read_text(errors="replace")

    @property
    def first_pid(self) -> int:
        """The first process of the machine, as seen from here; its namespaces are the machine's."""
        assert self._namespaces is not None, "the engine was not started"
        return self._namespaces.pid

    @property
    def namespaces(self) -> Namespaces:
        """The namespaces of the machine."""
        assert self._namespaces is not None, "the engine was not started"
        return self._namespaces

    @property
    def pid(self) -> int:
        """The process id of dockerd, as seen from here."""
        assert self._dockerd is not None, "dockerd does not run"
        return self._dockerd.pid

    def path(self, inside: str | os.PathLike[str]) -> Path:
        """The path from outside of a path inside, such as a socket below /run or a mount."""
        assert self._namespaces is not None, "the engine was not started"
        return self._namespaces.path(inside)

    def docker(
        self,
        *args: str,
        check: bool = True,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command against this engine; CommandError if it fails and ``check`` is true."""
        assert self._namespaces is not None, "the engine was not started"
        result = self._namespaces.run(
            [self._program("docker"), "-H", f"unix://{_SOCKET}", *args],
            env=clean_environment(DOCKER_CONFIG=str(self.directory / "cli")),
            input_bytes=input,
            timeout_s=timeout_s,
        )
        return checked(result) if check else result

    def output_of(self, *options: str, image: str, script: str) -> str:
        """Run a script in a container, remove the container after its end, and return what it printed.

        That comes by way of a file: on a busy machine Docker 26.1 lost the whole output of 6 of 2,500
        containers that ended at once, from their logs, too.
        """
        place = Path(tempfile.mkdtemp(prefix="output-", dir=self.directory))
        place.chmod(0o777)  # for containers of other users
        mount = f"--mount=type=bind,source={place},target=/output"
        self.docker("run", "--rm", *options, mount, image, "sh", "-c", f"exec >/output/text\n{script}")
        text = (place / "text").read_text()
        shutil.rmtree(place)
        return text

    def run(
        self, argv: Sequence[str], *, check: bool = False, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside and wait for its end."""
        assert self._namespaces is not None, "the engine was not started"
        result = self._namespaces.run(argv, env=clean_environment(), timeout_s=timeout_s)
        return checked(result) if check else result

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program inside and return at once.

        Args:
            argv: the program and its arguments; it starts in ``/``.
            env: variables in addition to our own, without our DOCKER_* and VOLPLUG_*.
            log: a file that gets its output; without one, ``<directory>/spawned.log``.
        """
        assert self._namespaces is not None, "the engine was not started"
        with (log or self.directory / "spawned.log").open("ab") as output:
            return self._namespaces.popen(
                argv, env=clean_environment(**(env or {})), stdout=output, stderr=output
            )

    def import_busybox(self, name: str = "busybox:local") -> str:
        """Make an image of busybox with an empty /data; return its name."""
        return self.import_image(name, {})

    def import_image(self, name: str, files: Mapping[str, bytes], *changes: str) -> str:
        """Make an image of busybox and ``files`` (path to content), with Dockerfile lines as ``changes``."""
        return images.import_image(self.docker, name, files, *changes)


def _plugin_ids(data_root: Path) -> list[str]:
    """The managed plugins that an engine had, with and without --userns-remap."""
    places = [*data_root.glob("plugins/*/"), *data_root.glob("*.*/plugins/*/")]
    return [place.name for place in places if len(place.name) == _ID_LENGTH]
