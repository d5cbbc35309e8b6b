"""Runs `zfs` and `zpool`, in bounded time.

A command that writes to a pool when that is suspended hangs, beyond the reach of signals. Such a command is
left alone, and until it has ended no other that changes something is started: it may still have its effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from volplug.drivers.zfs.errors import translated
from volplug.errors import BackendUnavailable, CommandFailed
from volplug.host.process import Finished
from volplug.host.threads import run_to_completion

# 10,000 datasets with their properties are 15 MiB.
_MOST_OUTPUT_BYTES: Final = 64 * 1024 * 1024


class RunProgram(Protocol):
    """Runs a program without a shell and waits for its end; see `volplug.host.process.run`."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        output_bytes: int,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> Finished:
        """Run it.

        Args:
            argv: Program and arguments.
            output_bytes: How much output is kept; more is an error.
            stdin: A descriptor that it reads, or None.
            stdout: A descriptor that it writes to instead of its output being kept, or None.

        Raises:
            CommandFailed: On an exit code other than 0.
        """
        ...


class ZfsTools:
    """The commands of one host's ZFS.

    Args:
        run: Runs programs.
        timeout_s: How long a command may take.
    """

    def __init__(self, run: RunProgram, timeout_s: float) -> None:
        self._run = run
        self._timeout_s = timeout_s
        self._hung: dict[asyncio.Task[Finished], str] = {}

    async def read(self, *argv: str) -> str:
        """Run a command that changes nothing, and return what it prints.

        Raises:
            VolplugError: By `translated`, or BackendUnavailable if it does not end in time.
        """
        return await self._bounded(argv)

    async def change(self, *argv: str) -> str:
        """Run a command that changes something; a cancellation is raised only after its end, or the timeout.

        Raises:
            VolplugError: As of `read`.
        """
        for command in self._hung.values():
            raise BackendUnavailable(f"{command} has not ended since", "zpool status tells why")
        return await run_to_completion(self._bounded(argv, changes=True))

    async def stream(self, *argv: str, stdin: int | None = None, stdout: int | None = None) -> None:
        """Run a command that reads or writes a stream, which takes as long as the other end needs.

        To cancel it the caller also closes the stream, which ends the command.

        Raises:
            VolplugError: As of `read`, but for the timeout.
        """
        try:
            await self._run(argv, output_bytes=_MOST_OUTPUT_BYTES, stdin=stdin, stdout=stdout)
        except CommandFailed as failed:
            raise translated(failed) from failed

    async def _bounded(self, argv: Sequence[str], *, changes: bool = False) -> str:
        running = asyncio.ensure_future(self._started(argv))
        done, _ = await asyncio.wait({running}, timeout=self._timeout_s)
        if not done:
            command = " ".join(argv[:2])
            if changes:
                self._hung[running] = command
            running.add_done_callback(self._forget)
            raise BackendUnavailable(
                f"{command} has not ended for {self._timeout_s:g} s", "zpool status tells why"
            )
        try:
            return running.result().stdout
        except CommandFailed as failed:
            raise translated(failed) from failed

    async def _started(self, argv: Sequence[str]) -> Finished:
        return await self._run(argv, output_bytes=_MOST_OUTPUT_BYTES)

    def _forget(self, running: asyncio.Task[Finished]) -> None:
        self._hung.pop(running, None)
        if not running.cancelled():
            running.exception()  # retrieved: its caller has left
