"""Installation: which volplug is on this host, its paths, its process, and how it was started."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from volplug.host import mountinfo

_PROPAGATED: Final = "/mnt/volplug"  # of config.json
_STATE_INSIDE: Final = "/var/lib/volplug"
_OWN_PLACE: Final = re.compile(r"(?P<root>.*)/plugins/(?P<id>[0-9a-f]{64})/propagated-mount")
_DOCKER_ROOT: Final = Path("/var/lib/docker")
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid; see unix(7)
_CONNECT_S: Final = 2.0
# Variables that volplug or the SDKs of clouds read.
_READ_BY_VOLPLUG: Final = ("VOLPLUG_", "REXRAY_", "AWS_", "EBS_", "OS_", "CINDER_")


def managed_paths(
    state_dir: Path, mounts: str | None = None, docker_root: Path = _DOCKER_ROOT
) -> Mapping[str, str]:
    """Return the settings of the managed plugin of a state directory, as this process sees its paths. Blocks.

    Its directory is the one with a copy of the state directory's id. Empty if there is no such plugin.

    Args:
        state_dir: As this process sees it.
        mounts: /proc/self/mountinfo.
        docker_root: Docker's data directory, for a plugin that is disabled: nothing is mounted there then.
    """
    own_id = _text(state_dir / "state-id")
    if not own_id:
        return {}
    entries = mountinfo.parse(mountinfo.read() if mounts is None else mounts)
    places = [entry.mountpoint for entry in entries if _OWN_PLACE.fullmatch(entry.mountpoint)]
    inside = [entry.mountpoint for entry in entries if entry.mountpoint == _PROPAGATED]
    places += map(str, docker_root.glob("plugins/*/propagated-mount"))
    for place in [*inside, *places]:
        if _text(Path(place) / "state-id") == own_id:
            found = _OWN_PLACE.fullmatch(place)
            socket_of = {"socket": f"/run/docker/plugins/{found['id']}/volplug.sock"} if found else {}
            return {"mount_root": f"{place}/volumes", "state_marker": f"{place}/state-id", **socket_of}
    return {}


def process_at(control_socket: Path) -> int:
    """Return the id of the process that listens at a Unix socket; 0 if none in sight does. Blocks.

    One of another user is not trusted: its variables would be taken over.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_CONNECT_S)
        try:
            client.connect(str(control_socket))
        except OSError:
            return 0
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        return int(pid) if uid in (0, os.geteuid()) else 0


def started_with(pid: int) -> tuple[list[str], Mapping[str, str]]:
    """Return the flags of a running `volplug serve`, and those of its variables that it reads. Blocks.

    Both are empty if the process has ended, or may not be read.
    """
    words = _text(Path(f"/proc/{pid}/cmdline")).split("\0")
    flags = words[words.index("serve") + 1 :] if "serve" in words else []
    pairs = (each.partition("=") for each in _text(Path(f"/proc/{pid}/environ")).split("\0"))
    variables = {name: value for name, _, value in pairs if name.startswith(_READ_BY_VOLPLUG) and value}
    return [word for word in flags if word], variables


def as_seen_here(variables: Mapping[str, str], state_dir: Path) -> Mapping[str, str]:
    """Return variables of the managed plugin with the paths that its state directory has here. Pure."""
    return {name: value.replace(_STATE_INSIDE, str(state_dir)) for name, value in variables.items()}


def adopt(variables: Mapping[str, str]) -> None:
    """Set variables of the running volplug that this process lacks: so it reads the same settings."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
