"""Reads a Docker Engine through Docker's SDK, which is imported by the first use."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from volplug.doctor.docker_engine import (
    EngineContainer,
    EngineFacts,
    EngineVolume,
    EngineVolumes,
    InstalledPlugin,
)
from volplug.errors import HostError

# The engine asks all drivers at once for their volumes, and volplug answers within as many.
_TIMEOUT_S: Final = 50
_WITHOUT_SDK: Final = "Docker's SDK is not installed (package docker)"
# `/host/run` is where the managed plugin has the directory that its mount `engine` names (config.json).
HOST_RUN: Final = Path("/host/run")
_RUNS: Final = (Path("/run"), HOST_RUN)


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """Where an engine is.

    Attributes:
        address: As `DOCKER_HOST` has it.
        run: The host's directory /run, with the sockets of its plugins.
    """

    address: str
    run: Path

    @classmethod
    def found(cls, environment: Mapping[str, str] = os.environ, runs: Sequence[Path] = _RUNS) -> Self:
        """Return the engine that `DOCKER_HOST` names, else the one with a socket in the first directory.

        Without any, that of the last directory that exists. Blocks.
        """
        there = [each for each in runs if each.is_dir()] or runs[:1]
        run = next((each for each in there if (each / "docker.sock").exists()), there[-1])
        return cls(environment.get("DOCKER_HOST") or f"unix://{run}/docker.sock", run)


class DockerSdk:
    """Docker's SDK for Python as an `EngineReader`.

    Args:
        address: Of the engine, as in `DOCKER_HOST`.

    Raises:
        HostError: If the SDK is missing, or no engine answers.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            import docker
        except ImportError as error:
            remedy = "Install it where this command is: pipx inject volplug docker, or volplug[engine] by pip"
            raise HostError(_WITHOUT_SDK, remedy) from error
        with self._asked():
            _try_socket(address)
            # TLS as for the docker command: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
            place = docker.utils.kwargs_from_env(environment={**os.environ, "DOCKER_HOST": address})
            self._client: Any = docker.APIClient(**place, version="auto", timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def facts(self) -> EngineFacts:
        """See `EngineReader`."""
        version, info = self._read(self._client.version), self._read(self._client.info)
        components = {each["Name"] for each in version.get("Components") or ()}
        return EngineFacts(
            version=str(version["Version"]),
            is_docker=not any("podman" in name.lower() for name in components),
            has_live_restore=bool(info.get("LiveRestoreEnabled")),
            kernel=str(info.get("KernelVersion") or ""),
            data_root=str(info.get("DockerRootDir") or ""),
            volume_drivers=tuple((info.get("Plugins") or {}).get("Volume") or ()),
        )

    def plugins(self) -> Sequence[InstalledPlugin]:
        """See `EngineReader`."""
        return [_plugin(shown) for shown in self._read(self._client.plugins)]

    def volumes(self) -> EngineVolumes:
        """See `EngineReader`."""
        shown = self._read(self._client.volumes)
        volumes = [
            EngineVolume(str(each["Name"]), str(each["Driver"])) for each in shown.get("Volumes") or ()
        ]
        return EngineVolumes(volumes, tuple(shown.get("Warnings") or ()))

    def containers(self) -> Sequence[EngineContainer]:
        """See `EngineReader`."""
        return [_container(shown) for shown in self._read(lambda: self._client.containers(all=True))]

    def _read(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401  # JSON has no type
        with self._asked():
            return call()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the SDK's own errors, and those of what it is made of
            raise HostError(f"no Docker Engine answers at {self._address}: {_why(error)}") from error


def _try_socket(address: str) -> None:
    """Connect once: where that fails, the SDK would leave its socket open."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with closing(socket.socket(socket.AF_UNIX)) as tried:
            tried.settimeout(_TIMEOUT_S)
            tried.connect(path)


def _plugin(shown: Mapping[str, Any]) -> InstalledPlugin:
    # An upgrade reverts mounts to those of the new version's config, and keeps the variables of the settings.
    config, settings = shown["Config"], shown["Settings"]
    variables = (str(each).partition("=") for each in settings.get("Env") or ())
    return InstalledPlugin(
        name=str(shown["Name"]),
        plugin_id=str(shown["Id"]),
        is_enabled=bool(shown["Enabled"]),
        command=tuple(config.get("Entrypoint") or ()),
        environment={name: value for name, _, value in variables},
        sources={
            str(each["Destination"]): str(each["Source"])
            for each in config.get("Mounts") or ()
            if each.get("Source")
        },
    )


def _container(shown: Mapping[str, Any]) -> EngineContainer:
    names = [str(name).removeprefix("/") for name in shown.get("Names") or ()]
    return EngineContainer(
        container_id=str(shown["Id"]),
        name=min(names, key=len, default=str(shown["Id"])[:12]),
        state=str(shown["State"]),
        mounts=tuple(
            EngineVolume(str(each["Name"]), str(each.get("Driver") or ""))
            for each in shown.get("Mounts") or ()
            if each.get("Type") == "volume" and each.get("Name")
        ),
    )


def _why(error: BaseException) -> str:
    """Return what the system said, or else what the SDK says, which wraps it several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
