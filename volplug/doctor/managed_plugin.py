"""The managed plugin as its host sees it: which plugin it is, and its settings with paths of the host."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from volplug.config.reading import variable_of
from volplug.config.settings import DEFAULT_STATE_DIR, Settings
from volplug.doctor.docker_engine import EngineFacts, InstalledPlugin
from volplug.doctor.docker_sdk import DockerSdk, EnginePlace

_PROGRAM: Final = "/opt/volplug/bin/volplug"  # of config.json, as are those below
_PROPAGATED: Final = "/mnt/volplug"
_PLUGIN_SOCKETS: Final = "/run/docker/plugins"
_NO_FILE: Final = "/dev/null"


@dataclass(frozen=True, slots=True)
class ManagedSettings:
    """The settings of the managed plugin, with the paths of the host.

    Attributes:
        plugin: Its name.
        flags: For `read_settings`: what its command fixes.
        environment: Variables that have to replace this process's before that, and before drivers are built,
            which read theirs themselves. Some are empty, which means unset; some are secrets.
    """

    plugin: str
    flags: Mapping[str, str]
    environment: Mapping[str, str]


def is_volplug(plugin: InstalledPlugin) -> bool:
    """Tell whether a managed plugin is volplug, under whatever name it was installed."""
    return _PROGRAM in plugin.command


def managed_settings(plugin: InstalledPlugin, facts: EngineFacts) -> ManagedSettings:
    """Return the settings of the managed plugin as its host has them.

    Paths within its configuration file are not translated: they differ only where `state.source` was set.
    """
    places = {
        **plugin.sources,
        _PROPAGATED: f"{facts.data_root}/plugins/{plugin.plugin_id}/propagated-mount",
        _PLUGIN_SOCKETS: f"{_PLUGIN_SOCKETS}/{plugin.plugin_id}",
    }
    given = {name: _on_host(value, places) for name, value in plugin.environment.items()}
    flags = dict(each.removeprefix("--").split("=", 1) for each in plugin.command if each.startswith("--"))
    flags = {name.replace("-", "_"): _on_host(value, places) for name, value in flags.items()}
    flags["state_dir"] = given.get(variable_of("state_dir")) or _on_host(str(DEFAULT_STATE_DIR), places)
    # Without it, the host's /etc/volplug/config.toml would be read, which the plugin does not see.
    flags["config"] = given.get(variable_of("config")) or _NO_FILE
    unset = {variable_of(setting): "" for setting in ("config", *Settings.model_fields)}
    return ManagedSettings(plugin.name, flags, unset | given)


async def read_managed_settings(place: EnginePlace | None = None) -> ManagedSettings | None:
    """Return the settings of the managed plugin of this host's engine; None if there is none.

    Of several, the first that is enabled, else the first.

    Raises:
        HostError: If no engine answers, or Docker's SDK is missing.
    """

    def read() -> tuple[EngineFacts, Sequence[InstalledPlugin]]:
        with closing(DockerSdk((place or EnginePlace.found()).address)) as reader:
            return reader.facts(), reader.plugins()

    facts, plugins = await asyncio.to_thread(read)
    ours = sorted(filter(is_volplug, plugins), key=lambda plugin: not plugin.is_enabled)
    return managed_settings(ours[0], facts) if ours else None


def _on_host(value: str, places: Mapping[str, str]) -> str:
    """Return a path of the plugin as the host has it; anything else unchanged."""
    for destination in sorted(places, key=len, reverse=True):
        if value == destination or value.startswith(f"{destination}/"):
            return places[destination] + value.removeprefix(destination)
    return value
