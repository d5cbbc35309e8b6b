"""Checks of the volplug that runs here: its sockets, whether it is ready, which version it is."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from volplug import __version__
from volplug.api.client import UnixConnection, check_versions
from volplug.api.client_errors import VersionMismatch
from volplug.doctor.examination import Examination
from volplug.doctor.state import locked
from volplug.errors import AlreadyRunning, HostError, VolplugError
from volplug.findings import Finding, Fix, Level

_ENGINE_SOCKETS: Final = Path("/run/docker/plugins")
# Where an engine looks for what describes plugins elsewhere: plugin discovery of Docker.
_SPECS: Final = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
_ANSWER_S: Final = 4.0
_READY_S: Final = 8.0  # /readyz takes 5 s at most


# The control API


async def check_daemon(examination: Examination) -> Sequence[Finding]:
    """Check that volplug runs, answers on its control socket, and is ready."""
    path = examination.settings.resolved_control_socket(is_managed=examination.is_managed)
    return await examination.blocking(_read_daemon, examination, path)


def _read_daemon(examination: Examination, path: Path) -> Sequence[Finding]:
    found = partial(Finding, "daemon", subject=str(path))
    if examination.daemon is None and not examination.daemon_pid:
        return [_not_running(path, is_managed=examination.is_managed)]
    try:
        version = str(ask(path, "GET", "/v1/version", _ANSWER_S)[1].get("version"))
        check_versions(__version__, version)
        status, answer = ask(path, "GET", "/readyz", _READY_S)
    except VersionMismatch as error:
        return [found(level=Level.YELLOW, message=error.cause, remedy=error.remedy)]
    except VolplugError as error:
        return [found(level=Level.RED, message=error.cause, remedy=error.remedy)]
    except OSError as error:
        message = f"accepts, but does not answer: {error or type(error).__name__}"
        return [found(level=Level.RED, message=message, remedy=_how_to_restart(examination.is_managed))]
    if status == http.client.OK:
        return [found(level=Level.GREEN, message=f"volplug {version} runs and is ready")]
    remedy = "The other findings, and volplug's log, tell why"
    problems = answer.get("problems") or ["no reason is given"]
    return [
        found(level=Level.RED, message=f"volplug is not ready: {each}", remedy=remedy) for each in problems
    ]


def _not_running(path: Path, *, is_managed: bool) -> Finding:
    start = "docker plugin enable --timeout 120 volplug" if is_managed else "systemctl start volplug.service"
    try:
        probe(path)
    except PermissionError:
        message, remedy = "this user may not connect", "Run doctor as root, or see VOLPLUG_CONTROL_GROUP"
        return Finding("daemon", Level.RED, str(path), message, remedy)
    except OSError:
        pass
    message = "volplug does not run, or serves no control API: no container with volumes starts or stops"
    return Finding("daemon", Level.RED, str(path), message, f"Start it: {start}; its log tells why it ended")


def _how_to_restart(is_managed: bool) -> str:
    if is_managed:
        return "Disable it with docker plugin disable --force, then docker plugin enable --timeout 120"
    return "Restart it: systemctl restart volplug.service"


# The plugin's socket


async def check_plugin_socket(examination: Examination) -> Sequence[Finding]:
    """Check the socket on which the engine calls volplug, and that engines find it there."""
    return await examination.blocking(_read_socket, examination)


def _read_socket(examination: Examination) -> Sequence[Finding]:
    path = examination.settings.socket
    return [_judged_socket(examination, path), *doubts_of_place(path, is_managed=examination.is_managed)]


def _judged_socket(examination: Examination, path: Path) -> Finding:
    found = partial(Finding, "plugin-socket", Level.RED, str(path))
    try:
        status = path.stat()
    except FileNotFoundError:
        return found("is not there, Docker finds no volplug", "Start volplug; VOLPLUG_SOCKET names the path")
    except OSError as error:
        return found(f"cannot be reached: {error.strerror}", "Run doctor as root")
    if not stat.S_ISSOCK(status.st_mode):
        return found("is no socket", f"Move it away: mv {path} {path}.away")
    if status.st_uid != 0 or status.st_mode & 0o002:
        mode = stat.S_IMODE(status.st_mode)
        message = f"belongs to user {status.st_uid}, mode {mode:04o}: others can mount and remove volumes"
        return found(message, f"chown root {path} && chmod 0600 {path}, and restart volplug")
    try:
        _, answer = ask(path, "POST", "/Plugin.Activate", _ANSWER_S)
    except PermissionError:
        return found("this user may not connect", "Run doctor as root")
    except ConnectionRefusedError:
        state_dir = examination.settings.state_dir
        fix = Fix(
            f"Remove the socket file {path}, on which no process listens?",
            partial(examination.blocking, _remove_stale, state_dir, path, (status.st_dev, status.st_ino)),
        )
        return found(
            "no process listens on it, each call of Docker fails", f"Start volplug, or rm {path}", fix
        )
    except (OSError, VolplugError) as error:
        why = error.cause if isinstance(error, VolplugError) else str(error) or type(error).__name__
        return found(f"accepts, but does not answer: {why}", _how_to_restart(examination.is_managed))
    if "VolumeDriver" not in (answer.get("Implements") or ()):
        message = f"volplug serves nothing but an error: {answer.get('Err') or 'it is no volume plugin'}"
        return found(message, "Correct what the error names; its log has more")
    return Finding("plugin-socket", Level.GREEN, str(path), "answers as a volume plugin")


def _remove_stale(state_dir: Path, path: Path, expected: tuple[int, int]) -> str:
    """Remove a socket file that is still the one that was found, and on which still no process listens.

    volplug replaces the file at its start, after it has locked its state directory.
    """
    with locked(state_dir):
        try:
            probe(path)
        except ConnectionRefusedError:
            status = path.lstat()
            if (status.st_dev, status.st_ino) != expected:
                raise HostError(f"{path} was replaced meanwhile", "Run doctor again") from None
            path.unlink()
            return f"removed {path}"
        except FileNotFoundError:
            return f"{path} is not there any more"
        raise AlreadyRunning(f"a process listens on {path} by now")


def doubts_of_place(path: Path, *, is_managed: bool, places: Sequence[Path] = _SPECS) -> Iterator[Finding]:
    """Doubt a place where no engine looks, and a specification that leads elsewhere."""
    if is_managed:
        return
    found = partial(Finding, "plugin-socket", Level.YELLOW)
    named = {spec: _target_of(spec) for place in places for spec in sorted(place.glob(f"{path.stem}.*"))}
    is_usual = path.parent in (_ENGINE_SOCKETS, _ENGINE_SOCKETS / path.stem)
    for spec, target in named.items():
        if target != f"unix://{path}":
            yield found(
                str(spec),
                f"describes a plugin of the same name elsewhere ({target or 'it cannot be read'})",
                f"Remove it: rm {spec}",
            )
    if not is_usual and f"unix://{path}" not in named.values():
        spec = places[0] / f"{path.stem}.spec"
        message = f"lies outside {_ENGINE_SOCKETS}, and no specification tells Docker of it"
        yield found(str(path), message, f"mkdir -p {spec.parent} && echo unix://{path} >{spec}")


def _target_of(spec: Path) -> str:
    try:
        text = spec.read_text(encoding="utf-8").strip()
        return str(json.loads(text)["Addr"]) if spec.suffix == ".json" else text
    except (OSError, ValueError, KeyError, TypeError):
        return ""


# Calls


def ask(path: Path, method: str, target: str, timeout_s: float) -> tuple[int, dict[str, Any]]:
    """Send a request without a body on a Unix socket, and return status and answer. Blocks.

    Raises:
        OSError: If the socket, or what listens on it, does not answer.
        HostError: If the answer is no JSON object.
    """
    with closing(UnixConnection([str(path)], timeout_s)) as connection:
        try:
            connection.request(method, target)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (http.client.HTTPException, ValueError) as error:
            raise HostError("what answers there is not volplug") from error
    if not isinstance(answer, dict):
        raise HostError("what answers there is not volplug")
    return response.status, answer


def probe(path: Path) -> None:
    """Connect to a Unix socket; raises OSError where no process listens. Blocks."""
    with closing(UnixConnection([str(path)], _ANSWER_S)) as connection:
        connection.connect()
