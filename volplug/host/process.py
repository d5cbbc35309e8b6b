"""Runs programs. No other module of the package starts any.

A thread waits for each program, which has its own session: neither a cancelled task, nor a closed event loop,
nor Ctrl-C on volplug's terminal kills a half-done mkfs or fsck.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from volplug.errors import CommandFailed, HostError, Unsupported
from volplug.host.threads import Pool, wait_until_done

_HALF_EXCERPT_BYTES: Final = 2048
_SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended.

    Attributes:
        argv: What was run.
        exit_code: Its exit code; minus the signal's number if a signal killed it.
        stdout: Start and end of what it printed, at most about 4 KiB; all of it if that was asked for.
        stderr: Start and end of its complaints, at most about 4 KiB.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class ProgramStreams:
    """What a program reads and writes.

    Attributes:
        output_bytes: Keep all of what it prints up to this and let more be an error; 0 to keep start and end.
        stdin: A descriptor that it reads; without one it reads nothing.
        stdout: A descriptor that it writes to, instead of its output being kept.
    """

    output_bytes: int = 0
    stdin: int | None = None
    stdout: int | None = None


_NO_STREAMS: Final = ProgramStreams()


def search_path() -> str:
    """Return the PATH that programs are searched in: the caller's, then the system's directories."""
    own = [part for part in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(part)]
    return os.pathsep.join(dict.fromkeys([*own, *_SYSTEM_PATH]))


async def run(
    pool: Pool,
    argv: Sequence[str],
    *,
    ok: Collection[int] = (0,),
    stop_signal: signal.Signals | None = None,
    streams: ProgramStreams = _NO_STREAMS,
) -> Finished:
    """Run a program without a shell and wait until it has ended, also if the caller is cancelled.

    Args:
        pool: One of its threads waits for the program.
        argv: Program and arguments.
        ok: Exit codes that are not failures.
        stop_signal: Sent when the awaiting task is cancelled, to a program that stops cleanly on it; without
            it the program is left to finish. Either way the cancellation is raised after the program's end.
        streams: What it reads and writes.

    Raises:
        CommandFailed: On any other exit code.
        Unsupported: If the program is not installed.
        HostError: If it cannot be started, its exit code was lost, or it printed too much.
    """
    child = _Child(tuple(argv), stop_signal, streams)
    finished = await _run_despite_cancellation(pool, child)
    if finished.exit_code not in ok:
        raise CommandFailed(finished.argv, finished.exit_code, finished.stderr or finished.stdout)
    return finished


def running_programs() -> tuple[str, ...]:
    """Return the names of the programs that run now."""
    with _idle:
        return tuple(child.argv[0] for child in _running)


async def wait_for_programs(timeout_s: float) -> tuple[str, ...]:
    """At shutdown, send each program its stop signal, if it has one, and wait for all.

    Returns:
        The names of programs that still run after the timeout.
    """
    with _idle:
        children = tuple(_running)
    for child in children:
        child.request_stop()
    await asyncio.to_thread(_wait_idle, timeout_s)
    return running_programs()


def reap_orphans() -> int:
    """As PID 1, reap orphaned processes that have ended, and return how many.

    A plain `waitpid(-1)` would also reap the programs that `run` waits for, and lose their exit codes.
    """
    reaped = 0
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            with _idle:
                if any(child.pid == ended.si_pid for child in _running):
                    return reaped  # its own thread reaps it; the rest is reaped at the next call
                os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
            reaped += 1
    return reaped


@dataclass(eq=False, slots=True)
class _Child:
    argv: tuple[str, ...]
    stop_signal: signal.Signals | None
    streams: ProgramStreams
    pid: int = 0
    alive: bool = False
    is_stop_requested: bool = False

    def request_stop(self) -> None:
        with _idle:
            self.is_stop_requested = True
            self.send_stop_signal()

    def send_stop_signal(self) -> None:
        """Send the signal if a stop was requested and the process is alive; the caller holds the lock."""
        if self.is_stop_requested and self.alive and self.stop_signal is not None:
            os.kill(self.pid, self.stop_signal)


_running: Final[set[_Child]] = set()
_idle: Final = threading.Condition()  # guards the set and the children in it; notified when it empties


def _wait_idle(timeout_s: float) -> bool:
    with _idle:
        return _idle.wait_for(lambda: not _running, timeout_s)


async def _run_despite_cancellation(pool: Pool, child: _Child) -> Finished:
    work = pool.submit(_run_to_end, child)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        child.request_stop()
        await wait_until_done(work)
        raise


def _run_to_end(child: _Child) -> Finished:
    try:
        process = _start(child)
    except FileNotFoundError:
        raise Unsupported(
            f"the program {child.argv[0]} is not installed on this host",
            f"Install the package that brings {child.argv[0]}",
        ) from None
    except OSError as exc:
        raise HostError(f"the program {child.argv[0]} cannot be started: {exc.strerror}") from exc
    try:
        stdout, stderr = _drain(process, child.streams.output_bytes)
        exit_code = _wait(child)
    finally:
        _reap(child, process)
    if child.streams.output_bytes and stdout.is_cut:
        raise HostError(f"{child.argv[0]} printed more than {child.streams.output_bytes} bytes")
    return Finished(child.argv, exit_code, stdout.text(), stderr.text())


def _start(child: _Child) -> subprocess.Popen[bytes]:
    # Under the lock, so that reap_orphans never sees a child that is not yet in the set.
    with _idle:
        process = subprocess.Popen(  # noqa: S603 - an argument vector, never a shell
            child.argv,
            stdin=subprocess.DEVNULL if child.streams.stdin is None else child.streams.stdin,
            stdout=subprocess.PIPE if child.streams.stdout is None else child.streams.stdout,
            stderr=subprocess.PIPE,
            env={"PATH": search_path(), "LC_ALL": "C.UTF-8"},
            cwd="/",  # a program must not keep a mount in use by its working directory
            start_new_session=True,
        )
        child.pid, child.alive = process.pid, True
        _running.add(child)
        child.send_stop_signal()
    return process


def _wait(child: _Child) -> int:
    """Wait without reaping, so that the PID is not reused before the child is out of the set.

    Popen.wait would report success for a child that another part of this process has reaped.
    """
    try:
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        ended = None
    if ended is None:
        raise HostError(f"the exit code of {child.argv[0]} was lost: another part of this process took it")
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _reap(child: _Child, process: subprocess.Popen[bytes]) -> None:
    with _idle:
        child.alive = False
        process.wait()
        _running.discard(child)
        _idle.notify_all()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class _Excerpt:
    """The start and the end of a stream: mkfs reports an error first, fsck last."""

    def __init__(self, head_bytes: int = _HALF_EXCERPT_BYTES) -> None:
        self._head_bytes = head_bytes
        self._head = bytearray()
        self._tail = b""
        self.is_cut = False

    def add(self, chunk: bytes) -> None:
        room = self._head_bytes - len(self._head)
        self._head += chunk[:room]
        rest = self._tail + chunk[room:]
        self.is_cut = self.is_cut or len(rest) > _HALF_EXCERPT_BYTES
        self._tail = rest[-_HALF_EXCERPT_BYTES:]

    def text(self) -> str:
        cut = b"\n...\n" if self.is_cut else b""
        return (self._head + cut + self._tail).decode("utf-8", "replace")


def _drain(process: subprocess.Popen[bytes], output_bytes: int) -> tuple[_Excerpt, _Excerpt]:
    """Read both pipes until the program closes them, so that it never blocks on a full one."""
    stdout, stderr = _Excerpt(output_bytes or _HALF_EXCERPT_BYTES), _Excerpt()
    with selectors.DefaultSelector() as selector:
        for stream, excerpt in ((process.stdout, stdout), (process.stderr, stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, excerpt)
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, 65536)
                if chunk:
                    key.data.add(chunk)
                else:
                    selector.unregister(key.fileobj)
    return stdout, stderr
