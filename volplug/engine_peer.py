"""Which run of the Docker engine is at the other end of a socket, where that can be seen."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final

from volplug.volumes.ledger import EngineIdentity

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid; see unix(7)
_START_TIME_FIELD: Final = 19  # of /proc/PID/stat after the name, see proc(5)
_ENGINE: Final = "dockerd"


def identify_engine(peer: socket.socket) -> EngineIdentity | None:
    """Return the engine's process and its start time; None for other clients and across pid namespaces."""
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    return _engine_process(_CREDENTIALS.unpack(raw)[0])


def is_engine_alive(engine: EngineIdentity) -> bool:
    """Tell whether this run of the engine still exists: several engines may share one plugin."""
    return _engine_process(engine.pid) == engine


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
