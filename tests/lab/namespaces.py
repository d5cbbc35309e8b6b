"""A small private machine: mount, network and process namespaces that end together.

/run/docker/plugins is hard-coded in dockerd, so every engine of the lab needs a /run of its own.
The process namespace makes the cleanup reliable: when its first process ends, the kernel ends
every other process in it (containers, shims, containerd, volplug) and with the last of them the mount
namespace ends with all its mounts. That first process ends when its standard input closes, so that
even a killed test run leaves no daemon.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from tests.lab import lane
from tests.lab.systems import System

Output = int | IO[bytes] | None

_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_END_TIMEOUT_S = 20.0

_FIRST_PROCESS = Path(__file__).with_name("first_process.sh")


class Namespaces:
    """The namespaces of one lab, held by a first process of our own.

    Attributes:
        pid: the first process, as seen from here; /proc/PID/root leads into the private mounts.
        directory: the lab's directory on disk; the same path inside and outside.
    """

    def __init__(
        self,
        directory: Path,
        system: System | None = None,
        *,
        own_network: bool = True,
        in_lane: bool = False,
        hostname: str = "",
    ) -> None:
        """Make them.

        Args:
            directory: the lab's directory.
            system: a system that replaces this machine's, or None.
            own_network: without it, programs inside see this machine's network.
            in_lane: instead of either, they see the network of the thread that calls this.
            hostname: the name of the machine inside; by default as outside.
        """
        self.directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self._first: int | None = None
        script = ["sh", str(_FIRST_PROCESS), str(directory)]
        if system is not None:
            script += [str(system.root), *(str(path) for bind in system.binds.items() for path in bind)]
        unshare = [] if own_network or in_lane else lane.with_network_outside()
        unshare += ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private"]
        unshare += ["-n"] if own_network and not in_lane else []
        unshare += ["-u"] if hostname else []
        # cwd: a process does not see a mount over its current directory.
        self._holder = subprocess.Popen(
            [*unshare, *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        try:
            self.pid = self._await_first_process()
            # Not by its pid, which may have been reused.
            self._first = os.pidfd_open(self.pid)
            if hostname:
                self.run(["sh", "-c", f"echo {hostname} >/proc/sys/kernel/hostname"])
        except BaseException:
            self.close()
            raise

    def _await_first_process(self) -> int:
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            self._holder.kill()
            cause = self._holder.stderr.read().decode(errors="replace").strip()
            raise RuntimeError(f"no namespaces for the lab (are you root?): {cause}")
        holder = self._holder.pid
        return int(Path(f"/proc/{holder}/task/{holder}/children").read_text().split()[0])

    def path(self, inside: str | os.PathLike[str]) -> Path:
        """The path from outside of a path inside; also usable to connect to sockets."""
        return Path(f"/proc/{self.pid}/root") / os.fspath(inside).lstrip("/")

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: Output = subprocess.DEVNULL,
        stdout: Output = None,
        stderr: Output = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program inside, in ``/``; it is our own child: pid, signals and wait work as usual."""
        first = f"/proc/{self.pid}"
        nsenter = ["nsenter", f"--mount={first}/ns/mnt", f"--net={first}/ns/net", f"--uts={first}/ns/uts"]
        # Entering a mount namespace changes to its root, which is not ours where we run in a chroot.
        nsenter += [f"--root={first}/root", f"--wd={first}/root", "--"]

        def start() -> subprocess.Popen[bytes]:
            self._children_of_this_thread_go_inside()
            return subprocess.Popen([*nsenter, *argv], env=env, stdin=stdin, stdout=stdout, stderr=stderr)

        # A thread of its own, which ends at once: the effect of setns() on a thread cannot be undone.
        with ThreadPoolExecutor(max_workers=1) as thread:
            process = thread.submit(start).result()
        self._started = [p for p in self._started if p.poll() is None] + [process]
        return process

    def enter_network(self) -> None:
        """Move the calling thread, and threads that it starts, to the network; for a dedicated thread."""
        self._enter("net", _CLONE_NEWNET)

    def _children_of_this_thread_go_inside(self) -> None:
        # nsenter --pid would put a second process between us and the program, and signals would reach the
        # wrong one.
        self._enter("pid", _CLONE_NEWPID)

    def _enter(self, kind: str, flag: int) -> None:
        # os.setns() comes with Python 3.12 only.
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(descriptor, flag) != 0:
                raise OSError(ctypes.get_errno(), f"setns to the lab's {kind} namespace")
        finally:
            os.close(descriptor)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input_bytes: bytes | None = None,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside and wait for its end; on a timeout it is killed and TimeoutExpired raised."""
        stdin = subprocess.DEVNULL if input_bytes is None else subprocess.PIPE
        process = self.popen(argv, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            try:
                out, err = process.communicate(input_bytes, timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(
            list(argv), process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def close(self) -> None:
        """End every process inside, and with them the mounts. May be called twice."""
        assert self._holder.stdin is not None
        if not self._holder.stdin.closed:
            self._holder.stdin.close()
        if self._first is not None:
            # Also if its processes are stopped.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            os.close(self._first)
            self._first = None
        # Our child first: the namespace ends only when its last process has been reaped.
        for process in self._started:
            process.wait(_END_TIMEOUT_S)
        self._started.clear()
        try:
            self._holder.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            raise
        finally:
            for stream in (self._holder.stdout, self._holder.stderr):
                if stream is not None:
                    stream.close()
