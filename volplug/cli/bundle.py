"""The archive of `volplug logs bundle`: what a maintainer needs to find a fault, without secrets."""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from volplug import __version__
from volplug.api.client import Json
from volplug.cli.configuration import settings_shown
from volplug.cli.programs import output_of
from volplug.cli.session import Session
from volplug.errors import VolplugError
from volplug.masking import masked

_SINCE: Final = "--since=-7d"
_LINES: Final = "--lines=200000"
_OF_DEVICES: Final = (
    "size",
    "ro",
    "loop/backing_file",
    "loop/offset",
    "device/model",
    "device/serial",
    "dm/name",
)
_OF_DAEMON: Final = ("mountinfo", "status", "limits")
_OUR_VARIABLES: Final = "VOLPLUG_"
_STATE_FILES: Final = "state.sqlite*"
_OWNER_ONLY: Final = 0o600

Content = Callable[[], bytes]


def write_bundle(session: Session, path: Path) -> None:
    """Write the archive, which only its owner can read.

    Raises:
        OSError: If it exists, or cannot be written.
    """
    opened = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb")
    with opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:
        for name, content in _contents(session):
            _add(archive, name, content)


def _add(archive: tarfile.TarFile, name: str, content: Content) -> None:
    """Add a file; one that cannot be had says why."""
    try:
        data = content()
    except VolplugError as error:
        name, data = f"{name}.missing", f"{error}\n".encode()
    except (OSError, ValueError) as error:
        name, data = f"{name}.missing", f"{masked(str(error))}\n".encode()
    info = tarfile.TarInfo(f"volplug/{name}")
    info.size, info.mtime, info.mode = len(data), int(time.time()), _OWNER_ONLY
    archive.addfile(info, io.BytesIO(data))


def _contents(session: Session) -> Iterator[tuple[str, Content]]:
    yield "versions.json", _versions
    for path in ("version", "backends", "nodes"):
        yield f"api/{path}.json", partial(_of_api, session, path)
    for path in ("volumes", "operations"):
        yield f"api/{path}.json", partial(_pages_of_api, session, path)
    yield "api/events.json", lambda: _json(list(session.client.events(kept=True)))
    yield "log/volplug.service.txt", lambda: _journal("--unit=volplug.service")
    yield "log/docker.service.txt", _log_of_plugin
    yield "settings.json", lambda: _json(settings_shown(())[0])
    yield "state/files.txt", lambda: _listed(_state_dir())
    yield from _state_files()
    yield "mountinfo.txt", Path("/proc/self/mountinfo").read_bytes
    yield "devices.txt", _devices
    yield "partitions.txt", Path("/proc/partitions").read_bytes
    for process in _daemons():
        yield f"daemon-{process.name}/started.txt", partial(_started, process)
        for each in _OF_DAEMON:
            yield f"daemon-{process.name}/{each}.txt", (process / each).read_bytes


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _versions() -> bytes:
    release = Path("/etc/os-release")
    versions: Json = {
        "client": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": release.read_text().splitlines() if release.exists() else [],
    }
    try:
        versions["docker"] = output_of(["docker", "version"]).decode(errors="replace").splitlines()
    except OSError as error:
        versions["docker"] = str(error)
    return _json(versions)


def _of_api(session: Session, path: str) -> bytes:
    return _json(session.client.get(path))


def _pages_of_api(session: Session, path: str) -> bytes:
    return _json(list(session.client.pages(path)))


def _journal(*units: str) -> bytes:
    return output_of(["journalctl", "--no-pager", "--output=short-iso-precise", _SINCE, _LINES, *units])


def _log_of_plugin() -> bytes:
    """Return the lines of the managed plugin, which dockerd logs with the plugin's id."""
    names = output_of(["docker", "plugin", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"]).decode()
    ids = [line.split()[0].encode() for line in names.splitlines() if "volplug" in line]
    lines = _journal("--unit=docker.service").splitlines(keepends=True) if ids else []
    return b"".join(line for line in lines if any(b"plugin=" + each in line for each in ids))


def _state_dir() -> Path:
    from volplug.config import read_settings

    return read_settings().settings.state_dir


def _state_files() -> Iterator[tuple[str, Content]]:
    for path in sorted(_state_dir().glob(_STATE_FILES)):
        yield f"state/{path.name}", path.read_bytes


def _listed(directory: Path) -> bytes:
    """Return names, modes, sizes and times of files below a directory; of mounts, which may hang, nothing."""
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {directory}")
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    lines = []
    for place, names, files in os.walk(directory.resolve()):
        names[:] = [name for name in names if os.path.join(place, name) not in mounts]
        for name in sorted([*names, *files]):
            path = os.path.join(place, name)
            found = os.lstat(path)
            when = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds")
            lines.append(
                f"{found.st_mode:06o} {found.st_uid} {found.st_size} {found.st_blocks} {when} {path}\n"
            )
    return "".join(lines).encode(errors="surrogateescape")


def _devices() -> bytes:
    lines = []
    for device in sorted(Path("/sys/block").iterdir()):
        found = {each: _attribute(device / each) for each in _OF_DEVICES}
        shown = " ".join(f"{key}={value}" for key, value in found.items() if value)
        lines.append(f"{device.name} {shown}\n")
    return "".join(lines).encode()


def _attribute(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # not every device has each
        return ""


def _daemons() -> Iterator[Path]:
    """Return the directories in /proc of the volplugs that serve on this host."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            words = _attribute(process / "cmdline").split("\0")
            if "serve" in words and any("volplug" in word for word in words):
                yield process


def _started(process: Path) -> bytes:
    """Return how a volplug was started: its arguments, and those of its variables that are its settings."""
    arguments = _attribute(process / "cmdline").split("\0")
    variables = [
        each for each in _attribute(process / "environ").split("\0") if each.startswith(_OUR_VARIABLES)
    ]
    return "".join(f"{masked(line)}\n" for line in (*arguments, *sorted(variables)) if line).encode()
