"""Identifies the dockerd process at the other end of a socket, where that is possible."""

from __future__ import annotations

import os
import select
import socket
import struct
from pathlib import Path
from typing import Final

from volplug.models import EngineIdentity

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid; see unix(7)
_DESCRIPTOR: Final = struct.Struct("i")
_SO_PEERPIDFD: Final = 77  # asm-generic/socket.h, since Linux 6.5
_START_TIME_FIELD: Final = 19  # of /proc/PID/stat after the name, see proc(5)
_ENGINE: Final = "dockerd"
_OUTSIDE: Final = 0  # the pid of a process of another pid namespace, see unix(7)


class EngineProcesses:
    """Identifies processes of the engine, so that a restart is noticed.

    As a service of the host, volplug identifies one by its pid and start time. In a managed plugin the engine
    has no pid, because it is in another pid namespace. There it is identified by the inode of a pidfd, which
    is unique to a process since Linux 6.9; before that, restarts are not noticed. Only the engine can access
    such a plugin's socket.
    """

    def __init__(self) -> None:
        self._outside: dict[EngineIdentity, int] = {}

    def identify(self, peer: socket.socket) -> EngineIdentity | None:
        """Return the engine's process; None for other clients, and where it cannot be identified."""
        try:
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid = _CREDENTIALS.unpack(raw)[0]
            return self._process_outside(peer) if pid == _OUTSIDE else _engine_process(pid)
        except OSError:
            return None

    def is_alive(self, engine: EngineIdentity) -> bool:
        """Tell whether this process of the engine is still running: several engines may share one plugin."""
        if engine.pid != _OUTSIDE:
            return _engine_process(engine.pid) == engine
        pidfd = self._outside.get(engine)
        return pidfd is not None and not _has_ended(pidfd)

    def _process_outside(self, peer: socket.socket) -> EngineIdentity:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _DESCRIPTOR.size)
        pidfd: int = _DESCRIPTOR.unpack(raw)[0]
        engine = EngineIdentity(_OUTSIDE, os.fstat(pidfd).st_ino)
        if engine in self._outside:
            os.close(pidfd)
            return engine
        for other in [known for known, descriptor in self._outside.items() if _has_ended(descriptor)]:
            os.close(self._outside.pop(other))
        self._outside[engine] = pidfd
        return engine


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _engine_process(pid: int) -> EngineIdentity | None:
    if pid <= 0:
        return None
    try:
        name, _, rest = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")
        )
        if name.partition("(")[2] != _ENGINE:
            return None
        return EngineIdentity(pid, int(rest.split()[_START_TIME_FIELD]))
    except (OSError, ValueError, IndexError):
        return None
