"""Where the peers run: this machine, with mounts of their own namespace and a directory that is removed."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab import lane, leftovers, loops
from tests.lab.programs import clean_environment, find_program

REPOSITORY = Path(__file__).parents[1]
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


class Place:
    """A temporary directory on a real disk; implements the lab's protocol of a machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, inside: Path, /) -> Path:
        """A path is the same for the peers and for us."""
        return inside

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program; Python programs can import from this repository."""
        environment = clean_environment(**{"PYTHONPATH": str(REPOSITORY), **(env or {})})
        with (log or self.directory / "log").open("ab") as output:
            return subprocess.Popen(
                argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


def make_mounts_private() -> None:
    """Move this process to a mount namespace of its own.

    A copy of our mounts in the namespace of a program that starts meanwhile would keep our devices busy.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        code = ctypes.get_errno()
        raise OSError(code, f"a mount namespace of our own: {os.strerror(code)}")


@contextmanager
def place() -> Iterator[Place]:
    """Make a place that is cleaned up in any case."""
    directory = lane.new_directory()
    try:
        yield Place(directory)
    finally:
        for target in leftovers.mounted_below(directory):
            subprocess.run([find_program("umount"), "--lazy", target], check=False)
        loops.detach_below(directory)
        shutil.rmtree(directory)
