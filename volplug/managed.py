"""The managed plugin: whether dockerd runs this process as one, and what its paths are called on the host.

dockerd binds a directory of its own to /mnt/volplug, and the one that `state.source` names to /var/lib
(config.json). Operators look for files there, so errors, Status and the log call them by those names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from volplug.host import mountinfo

_FIRST_PROCESS: Final = 1
_STATE: Final = "/var/lib"
_PROPAGATED: Final = "/mnt/volplug"
_PLUGINS: Final = "/plugins/"

HostPaths = Callable[[str], str]


def is_managed() -> bool:
    """Tell whether this process is the first one of its container, as a managed plugin is."""
    return os.getpid() == _FIRST_PROCESS


def unchanged(text: str) -> str:
    """Return the text: the paths of a service of the host are the host's."""
    return text


def host_paths(mounts: str) -> HostPaths:
    """Return a function that replaces paths of the plugin in a text by those of the host.

    The kernel tells which directory of a filesystem is mounted, not where the host has that filesystem. So a
    state directory elsewhere than by default begins with the name of the setting, and dockerd's directory
    with `DOCKER_ROOT` unless that is the usual one.

    Args:
        mounts: /proc/self/mountinfo of the plugin.
    """
    names: dict[str, str] = {}
    for entry in mountinfo.entries_at(mounts, _STATE)[-1:]:
        if entry.root != _STATE:
            names[_STATE] = "state.source"
    for entry in mountinfo.entries_at(mounts, _PROPAGATED)[-1:]:
        docker_root, plugins, rest = entry.root.rpartition(_PLUGINS)
        if plugins:
            is_usual = docker_root == "/var/lib/docker"
            names[_PROPAGATED] = f"{docker_root if is_usual else 'DOCKER_ROOT'}{plugins}{rest}"
    return _replacing(names) if names else unchanged


def _replacing(names: Mapping[str, str]) -> HostPaths:
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, names))})(?![\w.-])")
    return lambda text: pattern.sub(lambda found: names[found[0]], text)


def event_paths(as_on_host: HostPaths) -> Callable[[object, str, Mapping[str, Any]], dict[str, Any]]:
    """Return a processor of structlog that does the same in all texts of an event."""
    return lambda _logger, _method, event: {
        key: as_on_host(value) if isinstance(value, str) else value for key, value in event.items()
    }
