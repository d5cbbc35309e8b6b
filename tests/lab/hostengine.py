"""This machine's own, running Docker Engine, used without changing what it has."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import images, lane, leftovers, loops
from tests.lab.programs import checked, clean_environment, find_program

SOCKET = Path("/run/docker.sock")
_PLUGIN_SOCKET = Path("/run/docker/plugins/volplug.sock")


class NotUsableError(RuntimeError):
    """The machine's engine cannot be used; the message says why and what to do."""


class HostEngine:
    """The engine that runs on this machine; its existing objects are not touched.

    ``tidy`` removes the volumes of volplug that were made since the start, with the containers that
    use them; it needs a running volplug. Leaving the block removes everything else.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._volumes: set[str] = set()
        self._images: list[str] = []

    def __enter__(self) -> Self:
        self._refuse_if_not_usable()
        self._volumes = self._volplug_volumes()
        self._directory = lane.new_directory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        directory, self._directory = self._directory, None
        if directory is None:
            return
        if self._images:
            self.docker("image", "rm", *self._images, check=False)
        _PLUGIN_SOCKET.unlink(missing_ok=True)
        for target in leftovers.mounted_below(directory):
            subprocess.run(["umount", target], check=False)
        loops.detach_below(directory)
        shutil.rmtree(directory)

    @property
    def directory(self) -> Path:
        """A temporary directory, removed at the end."""
        assert self._directory is not None, "not entered"
        return self._directory

    def path(self, inside: str | os.PathLike[str]) -> Path:
        """The path itself: inside and outside are the same."""
        return Path(inside)

    def docker(
        self,
        *args: str,
        check: bool = True,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker command against the machine's engine."""
        command = [find_program("docker"), "-H", f"unix://{SOCKET}", *args]
        done = subprocess.run(
            command, input=input, env=clean_environment(), capture_output=True, check=False, timeout=timeout_s
        )
        out, err = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
        result = subprocess.CompletedProcess(command, done.returncode, out, err)
        return checked(result) if check else result

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program on this machine and return at once."""
        with (log or self.directory / "spawned.log").open("ab") as output:
            return subprocess.Popen(
                argv,
                env=clean_environment(**(env or {})),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
            )

    def import_busybox(self, name: str = "busybox:local") -> str:
        """Make the image if the machine has none of that name; ours is removed at the end."""
        if self.docker("image", "inspect", name, check=False).returncode != 0:
            images.import_image(self.docker, name, {})
            self._images.append(name)
        return name

    def tidy(self) -> None:
        """Remove the volumes made since the start, and the containers that use them."""
        for volume in sorted(self._volplug_volumes() - self._volumes):
            using = self.docker("ps", "--all", "--quiet", "--filter", f"volume={volume}").stdout.split()
            if using:
                self.docker("rm", "--force", *using)
            self.docker("volume", "rm", volume)

    def _volplug_volumes(self) -> set[str]:
        listed = self.docker("volume", "ls", "--quiet", "--filter", "driver=volplug")
        return set(listed.stdout.split())

    def _refuse_if_not_usable(self) -> None:
        if not SOCKET.is_socket():
            raise NotUsableError(
                f"no Docker Engine runs on this machine ({SOCKET} is not there). "
                "Start it, or run `make demo` without ENGINE=host: that starts an engine of its own."
            )
        answer = self.docker("version", "--format", "{{.Server.Version}}", check=False)
        if answer.returncode != 0:
            raise NotUsableError(f"the machine's Docker Engine does not answer: {answer.stderr.strip()}")
        if _PLUGIN_SOCKET.exists():
            raise NotUsableError(
                f"{_PLUGIN_SOCKET} exists: a volplug serves this machine already. Stop it first, or run "
                "`make demo` without ENGINE=host."
            )
