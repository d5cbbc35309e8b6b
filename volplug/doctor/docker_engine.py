"""A Docker Engine as doctor sees it: what is read of it, and the protocol of its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself.

    Attributes:
        version: Such as `26.1.5+dfsg1`.
        is_docker: Whether it is Docker's: podman answers the same calls.
        has_live_restore: Whether containers survive the end of dockerd.
        kernel: Release of the host's kernel.
        data_root: Directory of its data on the host.
        volume_drivers: Those that it has used since its start; a list of volumes uses all that it has.
    """

    version: str
    is_docker: bool
    has_live_restore: bool
    kernel: str
    data_root: str
    volume_drivers: Sequence[str]


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A managed plugin in an engine, volplug or another.

    Attributes:
        name: With its tag, as the driver of its volumes is called.
        plugin_id: The engine's id of it.
        is_enabled: Whether it runs.
        command: What it starts.
        environment: Its variables, as they are set.
        sources: Directories of the host by the path that the plugin has them at.
    """

    name: str
    plugin_id: str
    is_enabled: bool
    command: Sequence[str]
    environment: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EngineVolume:
    """A volume as an engine knows it.

    Attributes:
        name: Its name.
        driver: The driver that the engine knows it under.
    """

    name: str
    driver: str


@dataclass(frozen=True, slots=True)
class EngineVolumes:
    """The volumes of an engine.

    Attributes:
        volumes: Of all drivers.
        warnings: Why a driver could not be asked; of that one, it remembers some.
    """

    volumes: Sequence[EngineVolume]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """A container.

    Attributes:
        container_id: The engine's id of it.
        name: Its name.
        state: `running`, `paused`, `exited` and so on.
        mounts: Its volumes, one for each place where it has one: the engine mounts each of them.
    """

    container_id: str
    name: str
    state: str
    mounts: Sequence[EngineVolume]

    @property
    def is_running(self) -> bool:
        """Tell whether its volumes are mounted."""
        return self.state in ("running", "paused")


class EngineReader(Protocol):
    """Reads an engine; changes nothing. Its calls block, and raise a `HostError` if there is no answer."""

    def facts(self) -> EngineFacts:
        """Return what the engine says of itself."""
        ...

    def plugins(self) -> Sequence[InstalledPlugin]:
        """Return all managed plugins."""
        ...

    def volumes(self) -> EngineVolumes:
        """Return the volumes of all drivers; the engine asks each driver."""
        ...

    def containers(self) -> Sequence[EngineContainer]:
        """Return all containers."""
        ...
