"""A real ZFS with pools on files: zfs-fuse, which needs no kernel module, or the machine's own.

The daemon's socket, lock and cache have fixed paths, so they are on file systems that only its mount
namespace sees: that of a lane, or of a test host.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from tests.lab.lane import new_directory
from tests.lab.namespaces import Namespaces
from tests.lab.programs import checked, clean_environment, find_program
from tests.lab.requirements import HAS_OPENZFS
from tests.lab.waiting import WaitTimeoutError, wait_until
from volplug.errors import CommandFailed
from volplug.host.process import Finished

_FIXED = ("/run/zfs", "/run/lock/zfs", "/var/lib/zfs", "/etc/zfs")
_START_TIMEOUT_S = 20.0
_TIMEOUT_S = 60.0
_SOUND_S = 5.0
_LAG_S = 10.0
_MOUNT_TYPE = "fuse.zfs"


class HostZfs:
    """This machine's own ZFS, with pools on files.

    Attributes:
        directory: Where the files of its pools are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pools: list[ZfsPool] = []

    def run(self, argv: Sequence[str], timeout_s: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a program, and wait for its end."""
        return subprocess.run(
            argv,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def zfs(self, *arguments: str) -> str:
        """Run a command of zfs that has to succeed, and return what it prints."""
        return checked(self.run(["zfs", *arguments])).stdout

    def zpool(self, *arguments: str) -> str:
        """Run a command of zpool that has to succeed, and return what it prints."""
        return checked(self.run(["zpool", *arguments])).stdout

    def make_pool(self, name: str, *, size_bytes: int, files: int = 1) -> ZfsPool:
        """Make a pool of some files, a mirror if there are several."""
        paths = [self.directory / f"{name}-{number}.img" for number in range(files)]
        for path in paths:
            with path.open("wb") as image:
                image.truncate(size_bytes)
        self.zpool("create", "-O", "mountpoint=none", name, *["mirror"][: files - 1], *map(str, paths))
        self._pools.append(ZfsPool(self, name, tuple(paths)))
        return self._pools[-1]

    def revive(self) -> bool:
        """Restart what has failed by itself; tell whether it had."""
        return False

    def close(self) -> None:
        """Destroy its pools; one that is not imported needs no more than the end of its files."""
        for pool in self._pools:
            self.run(["zpool", "destroy", "-f", pool.name])
        self._remove_files()

    def _remove_files(self) -> None:
        for path in (path for pool in self._pools for path in pool.files):
            path.unlink(missing_ok=True)


class ZfsFuse(HostZfs):
    """A daemon of its own, with the pools that it has imported."""

    def __init__(self, directory: Path, namespaces: Namespaces | None = None) -> None:
        """Start it, by default in the mount namespace of this process."""
        super().__init__(directory)
        self._namespaces = namespaces
        self._daemon: subprocess.Popen[bytes] | None = None
        self._mounted: list[str] = []
        # Another test run may use the same mount namespace; it waits for its turn.
        self._turn = None if namespaces else os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._turn is not None:
                fcntl.flock(self._turn, fcntl.LOCK_EX)
            for path in _FIXED:
                checked(self.run(["mkdir", "-p", path]))
                checked(self.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path]))
                self._mounted.append(path)
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        argv = [find_program("zfs-fuse"), "--no-daemon", "--no-kstat-mount"]
        argv += ["--max-arc-size", "16", "--fuse-mount-options", "default_permissions"]
        if self._namespaces is None:
            self._daemon = subprocess.Popen(argv, cwd="/", env=clean_environment(), stdin=subprocess.DEVNULL)
        else:
            self._daemon = self._namespaces.popen(argv, env=clean_environment())
        wait_until(lambda: self.run(["zpool", "list"]).returncode == 0, _START_TIMEOUT_S, "zfs-fuse answers")

    def kill(self) -> None:
        """Kill the daemon, as a crash does; its mounts fail from then on, and no request to it hangs."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def revive(self) -> bool:
        """Restart a daemon that has crashed by itself, or calls datasets busy for good that are not mounted.

        Seen in one of some hundred lives of a volume, where a mount followed an unmount at once.
        """
        if self._daemon is None or (self._daemon.poll() != -signal.SIGSEGV and self._lets_go()):
            return False
        self.kill()
        self.start()
        return True

    def _lets_go(self) -> bool:
        """Tell whether all pools can be exported; they are imported again."""
        for pool in self._pools:
            export = partial(self.run, ["zpool", "export", pool.name], _SOUND_S)
            try:
                wait_until(lambda: export().returncode == 0, _SOUND_S, "it lets go")  # noqa: B023  # now
            except (WaitTimeoutError, subprocess.TimeoutExpired):
                return False
            self.zpool("import", "-d", str(self.directory), pool.name)
        return True

    def failure(self, parent: str) -> str:
        """Say whether the daemon has died, or keeps a dataset busy that is mounted nowhere; empty if neither.

        Both happen after some dozens of mounts, by bare commands, too. What is below the parent is destroyed.
        """
        if self._daemon is None or self._daemon.poll() is not None:
            return "zfs-fuse has died"
        destroy = ["sh", "-c", f"zfs list -H -o name -r -d 1 {parent} | sed 1d | xargs -rn1 zfs destroy -r"]
        try:
            wait_until(lambda: self.run(destroy).returncode == 0, _LAG_S, "nothing is busy")
        except WaitTimeoutError:
            users = self.run(["sh", "-c", f"grep -l '{_MOUNT_TYPE} {parent}/' /proc/[0-9]*/mountinfo"])
            return "" if users.stdout else "zfs-fuse keeps a dataset busy"
        return ""

    def run(self, argv: Sequence[str], timeout_s: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a program where the daemon is, and wait for its end."""
        if self._namespaces is None:
            return super().run(argv, timeout_s)
        return self._namespaces.run(argv, env=clean_environment(), timeout_s=timeout_s)

    def close(self) -> None:
        """End the daemon, and all its mounts in this mount namespace.

        Raises:
            RuntimeError: If the daemon had ended by itself.
        """
        ended = None if self._daemon is None else self._daemon.poll()
        self.kill()
        ours = tuple(f" - {_MOUNT_TYPE} {pool.name}/" for pool in self._pools)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if any(each in line for each in ours):
                self.run(["umount", "--lazy", line.split()[4]])
        self._remove_files()
        while self._mounted:
            checked(self.run(["umount", self._mounted.pop()]))
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None
        if ended is not None:
            raise RuntimeError(f"zfs-fuse ended by itself, with code {ended}")


class ZfsPool:
    """A pool on files.

    Attributes:
        zfs: That has imported it.
        name: Its name.
        files: Its devices.
    """

    def __init__(self, zfs: HostZfs, name: str, files: tuple[Path, ...]) -> None:
        self.zfs = zfs
        self.name = name
        self.files = files
        self._parents = itertools.count()

    def new_parent(self) -> str:
        """Make a dataset for the volumes of one test, and return its name."""
        name = f"{self.name}/t{next(self._parents)}"
        self.zfs.zfs("create", name)
        return name


@contextmanager
def own_or_private_zfs() -> Iterator[HostZfs]:
    """This machine's own ZFS where that is to be tested, else zfs-fuse; its pools end with the block."""
    directory = new_directory()
    try:
        with closing(HostZfs(directory) if HAS_OPENZFS else ZfsFuse(directory)) as zfs:
            yield zfs
    finally:
        directory.rmdir()


async def run_program(
    argv: Sequence[str],
    *,
    output_bytes: int,
    stdin: int | None = None,
    stdout: int | None = None,
) -> Finished:
    """Run a program for a driver under test; the same as the host's, with all of its output."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert len(out or b"") <= output_bytes
    finished = Finished(
        tuple(argv), process.returncode or 0, (out or b"").decode(errors="replace"), err.decode()
    )
    if finished.exit_code != 0:
        raise CommandFailed(finished.argv, finished.exit_code, finished.stderr or finished.stdout)
    return finished
