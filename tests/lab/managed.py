"""volplug as a managed plugin of a Docker Engine, to be enabled, disabled, killed and removed at will."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

from tests.lab import cgroups, serve
from tests.lab.built import built_plugin
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import checked
from tests.lab.waiting import WaitTimeoutError, wait_until
from volplug.steps import WorldStep

_DEFAULT_HOST_DIR = Path("/var/lib")
_READY_TIMEOUT_S = 30.0
# Nearly all of the root file system.
LARGE = ("usr", "opt")
# If root's processes on this machine may not have it, no container gets it either.
_NOT_GRANTED_EVERYWHERE = "CAP_SYS_RESOURCE"
# The path in a plugin of the program that kills it at a step.
_SERVE = "/tests/serve.py"


class ManagedVolplug:
    """The plugin that `make plugin` builds, in an engine; with the methods of ``VolplugProcess``.

    It is created as it is shipped, except for CAP_SYS_RESOURCE, which only growing ext4 needs, and its large
    directories, which are mounts of the build: Docker takes ten seconds to pack and unpack them. Its
    state is in the engine's directory.

    Attributes:
        name: its name in `docker plugin` commands.
        driver: the driver that Docker shows for its volumes.
        host_dir: the source of its mount `state`.
        state_dir: the state directory, as seen from here.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str = "volplug",
        host_dir: Path | None = None,
        reference: str = "",
        binds: Mapping[Path, str] | None = None,
        is_whole: bool = False,
        dies_at: WorldStep | None = None,
    ) -> None:
        """Describe a plugin; nothing happens before ``install`` or ``with``.

        Args:
            engine: where it is installed.
            name: its name, with or without a tag.
            host_dir: the directory that gets its state, by default one of the engine's.
            reference: its reference in a registry; by default it is created from the build.
            binds: further directories that it sees (path here to path in the plugin).
            is_whole: whether Docker gets all of its files, also the large directories.
            dies_at: the step at which it kills itself in its first start; the engine starts it again.
        """
        self._engine = engine
        self._reference = reference
        self._binds = dict(binds or {})
        self._dies_at = dies_at
        self._large = () if is_whole else LARGE
        self._is_installed = False
        self.name = name
        self.driver = name if ":" in name else f"{name}:latest"
        self.host_dir = host_dir or engine.directory / f"{name}-host"
        self.state_dir = engine.path(self.host_dir / "volplug")

    def __enter__(self) -> Self:
        """Install it, if that has not been done, and start it."""
        if not self._is_installed:
            self.install()
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stderr.write(f"--- {self.name} wrote last:\n{self.log_tail()}\n")
        self.remove()

    # Start and end

    def install(self) -> Self:
        """Create it without enabling it."""
        self._is_installed = True
        if self._reference:
            options = ("--disable", "--grant-all-permissions", "--alias", self.name)
            self._engine.docker("plugin", "install", *options, self._reference)
        else:
            source = built_plugin().directory
            create_plugin(
                self._engine,
                self.name,
                source,
                large=self._large,
                binds=self._binds,
                dies_at=self._dies_at,
            )
        if self.host_dir != _DEFAULT_HOST_DIR:
            self.host_dir.mkdir(exist_ok=True)
            self.set(f"state.source={self.host_dir}")
        return self

    def upgrade(self, reference: str) -> None:
        """Replace it by another version from a registry, as documented; it stays disabled."""
        self.stop()
        options = ["--grant-all-permissions", "--skip-remote-check"]
        self._engine.docker("plugin", "upgrade", *options, self.name, reference)

    def set(self, *settings: str) -> None:
        """Change settings; the plugin has to be disabled."""
        self._engine.docker("plugin", "set", self.name, *settings)

    def start(self, settings: Mapping[str, str] | None = None) -> Self:
        """Enable it, unless the engine did so already, and wait until its socket accepts connections.

        Args:
            settings: set before; needs a disabled plugin.
        """
        if settings:
            self.set(*(f"{key}={value}" for key, value in settings.items()))
        refused: list[subprocess.CompletedProcess[str]] = []

        def is_up() -> bool:
            # The engine gives up on a plugin that ends again and again, some time after it was enabled; and
            # while it still cleans up after one that ended, enabling it fails.
            if not self.running:
                enabled = self._engine.docker("plugin", "enable", self.name, check=False)
                refused[:] = [enabled] if enabled.returncode != 0 else []
            return self.accepts()

        try:
            wait_until(is_up, _READY_TIMEOUT_S, f"{self.name} accepts connections")
        except WaitTimeoutError:
            for enabled in refused:
                checked(enabled)
            raise
        return self

    def stop(self) -> None:
        """Disable it, even if it is in use."""
        self._engine.docker("plugin", "disable", "--force", self.name)

    def kill(self) -> int:
        """SIGKILL its first process and wait until that is gone; the engine starts it again.

        Returns:
            The process that was killed.
        """
        (killed,) = self.pids()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in self.pids(), _READY_TIMEOUT_S, f"process {killed} has ended")
        return killed

    def restart(self) -> Self:
        """Disable it and enable it again."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Disable and remove it, if it is there."""
        self._is_installed = False
        if self._engine.docker("plugin", "inspect", self.name, check=False).returncode == 0:
            if self.running:
                self.stop()
            number = self.id
            # By force: Docker has volumes of it.
            self._engine.docker("plugin", "rm", "--force", self.name)
            # The engine forgets those of a start that failed.
            cgroups.remove_of_plugins([number])

    # State

    @property
    def running(self) -> bool:
        """Whether it is enabled."""
        return bool(self.inspect()["Enabled"])

    @property
    def id(self) -> str:
        """The id that Docker gave it; the same after an upgrade."""
        return str(self.inspect()["Id"])

    @property
    def pid(self) -> int:
        """Its first process, as seen from here."""
        (pid,) = self.pids()
        return pid

    @property
    def socket(self) -> Path:
        """The plugin socket, as seen inside the engine's namespaces; short, as connect() needs it."""
        short = Path("/run") / f"{self.id[:12]}.sock"
        if not self._engine.path(short).is_symlink():
            self._engine.path(short).symlink_to(f"docker/plugins/{self.id}/volplug.sock")
        return short

    @property
    def plugin_dir(self) -> Path:
        """Its directory at the engine, with ``rootfs`` and ``propagated-mount``."""
        data_root = self._engine.docker("info", "--format={{.DockerRootDir}}").stdout.strip()
        return Path(data_root) / "plugins" / self.id

    @property
    def mount_root(self) -> Path:
        """Below it are the mounts of volumes."""
        return self.plugin_dir / "propagated-mount" / "volumes"

    @property
    def log_text(self) -> str:
        """Its output so far, as dockerd logs it."""
        mark = f"plugin={self.id}"
        return "".join(line for line in self._engine.log_text.splitlines(keepends=True) if mark in line)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return "\n".join(self.log_text.splitlines()[-lines:])

    def inspect(self) -> dict[str, Any]:
        """What `docker plugin inspect` shows of it."""
        shown = json.loads(self._engine.docker("plugin", "inspect", self.name).stdout)[0]
        assert isinstance(shown, dict)
        return shown

    def pids(self) -> list[int]:
        """Its first process in all its containers: none or one, for moments more."""
        number = self.id
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_first_of(entry, number)]

    def accepts(self) -> bool:
        """Whether its socket accepts connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(str(self._engine.path(self.socket)))
            except OSError:
                return False
        return True


Volplug = VolplugProcess | ManagedVolplug
Installation = Callable[[Engine], Volplug]


def as_tested(config: Mapping[str, Any], binds: Mapping[Path, str]) -> dict[str, Any]:
    """A plugin's config with ``binds``, and without the one capability that is not available everywhere."""
    linux = dict(config["linux"])
    linux["capabilities"] = [name for name in linux["capabilities"] if name != _NOT_GRANTED_EVERYWHERE]
    mounts = [
        {"name": there, "type": "bind", "source": str(here), "destination": there, "options": ["rbind", "ro"]}
        for here, there in binds.items()
    ]
    return {**config, "linux": linux, "mounts": [*config["mounts"], *mounts]}


def create_plugin(
    engine: Engine,
    name: str,
    source: Path,
    *,
    large: Sequence[str] = LARGE,
    binds: Mapping[Path, str] | None = None,
    dies_at: WorldStep | None = None,
) -> None:
    """`docker plugin create` from ``source``, without CAP_SYS_RESOURCE.

    Args:
        engine: where it is created.
        name: its name, with or without a tag.
        source: has ``config.json`` and ``rootfs``; the plugin keeps using it.
        large: directories of the root file system that become read-only mounts of those in ``source``.
        binds: further read-only mounts (path here to path in the plugin).
        dies_at: as in ``ManagedVolplug``.
    """
    directory = engine.directory / "plugin"
    rootfs = directory / "rootfs"
    rootfs.mkdir(parents=True, exist_ok=True)
    mounts = {source / "rootfs" / each: f"/{each}" for each in large} | dict(binds or {})
    shipped = json.loads((source / "config.json").read_text())
    if dies_at is not None:
        shipped["entrypoint"] = _dying_once(shipped["entrypoint"], dies_at)
        mounts[Path(serve.__file__)] = _SERVE
    config = as_tested(shipped, mounts)
    (directory / "config.json").write_text(json.dumps(config))
    engine.run(["mount", "--bind", str(source / "rootfs"), str(rootfs)], check=True)
    try:
        for each in large:
            engine.run(["mount", "-t", "tmpfs", "tmpfs", str(rootfs / each)], check=True)
        engine.docker("plugin", "create", name, str(directory), timeout_s=300)
    finally:
        engine.run(["umount", "--recursive", str(rootfs)], check=True)


def _dying_once(entrypoint: Sequence[str], step: WorldStep) -> list[str]:
    """The shipped command, with tests.lab.serve in place of `volplug serve`."""
    program, verb, *options = entrypoint
    assert verb == "serve"
    python = str(PurePath(program).with_name("python"))
    return [python, _SERVE, f"--kill-at={step}", f"--once={_DEFAULT_HOST_DIR / 'started'}", *options]


def _is_first_of(process: Path, plugin_id: str) -> bool:
    try:
        if plugin_id not in (process / "cgroup").read_text():
            return False
        status = (process / "status").read_text()
    except OSError:
        return False
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
    return numbers[-1] == "1" and "\nState:\tZ" not in status
