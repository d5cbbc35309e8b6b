"""Settings of this host: flags, environment (`VOLPLUG_*`), then /etc/volplug/config.toml.

An empty environment variable counts as unset, because a managed plugin's settable variables are always
present; every default is defined here, because an upgraded plugin keeps its old environment.
"""

from __future__ import annotations

import os
import platform
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from volplug.errors import ConfigurationError, InvalidSize
from volplug.host.filesystems import FILESYSTEMS
from volplug.models import TakeoverPolicy
from volplug.sizes import parse_size

DEFAULT_CONFIG: Final = Path("/etc/volplug/config.toml")
DEFAULT_STATE_DIR: Final = Path("/var/lib/volplug")
DEFAULT_STATE_MARKER: Final = Path("/etc/volplug/state-id")
# REX-Ray's variables with the same meaning here, and those of their values that are named differently.
# REXRAY_PREEMPT took volumes from any node; here it requires proof that the node is dead.
REXRAY_VARIABLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "REXRAY_FSTYPE": ("default_fs", {}),
    "REXRAY_LOGLEVEL": ("log_level", {"warn": "warning"}),
    "REXRAY_PREEMPT": ("takeover", {"true": "proof", "1": "proof", "false": "never", "0": "never"}),
}
_PATHS: Final = ("socket", "state_dir", "state_marker", "mount_root")
_BACKEND_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


class BackendTable(BaseModel):
    """One `[backends.NAME]` table; the driver checks its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    driver: str

    @property
    def driver_settings(self) -> Mapping[str, object]:
        """Return everything but the driver's name."""
        return dict(self.model_extra or {})


class Settings(BaseSettings):
    """All settings, checked.

    Attributes:
        socket: Path of the plugin's socket, by which Docker finds it.
        state_dir: Directory of this host's state, and by default of the loop volumes.
        state_marker: Path of the copy of the state directory's id; set for the default directory only.
        mount_root: Directory below which volumes are mounted.
        backend: Name of the default backend.
        cluster: Name shared by the hosts that share volumes.
        node_id: Name of this host.
        default_size: For volumes created without a size.
        default_fs: For volumes created without a filesystem.
        linger_s: How long a volume stays attached after its last unmount; unset for the driver's own default.
        slow_answer_s: Time limit for answers to Create and Mount; Docker waits 120 s.
        answer_s: Time limit for all other answers; Docker waits 60 s.
        mount_grace_s: How old an answered Mount must be before it may be checked by a trial release.
        release_wait_s: How long a Mount waits for another node to detach the volume.
        takeover: When a Mount may take over a volume from a node that does not: proof, fence or never.
        log_level: debug, info, warning or error.
        backends: Name to table.
        profiles: Name to option defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix="VOLPLUG_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    socket: Path = Path("/run/docker/plugins/volplug.sock")
    state_dir: Path = DEFAULT_STATE_DIR
    state_marker: Path | None = None
    mount_root: Path | None = None
    backend: str = ""
    cluster: str = ""
    node_id: str = Field(default_factory=platform.node)
    default_size: str = ""
    default_fs: str = "ext4"
    linger_s: float | None = Field(default=None, ge=0)
    slow_answer_s: float = Field(default=110, gt=0)
    answer_s: float = Field(default=50, gt=0)
    mount_grace_s: float = Field(default=60, ge=0)
    release_wait_s: float = Field(default=20, ge=0)
    takeover: TakeoverPolicy = TakeoverPolicy.PROOF
    log_level: str = "info"
    backends: dict[str, BackendTable] = Field(default_factory=dict)
    profiles: dict[str, dict[str, str]] = Field(default_factory=dict)

    @field_validator(*_PATHS, mode="before")
    @classmethod
    def _refuse_empty(cls, path: object) -> object:
        """Refuse an empty path, which would mean the current directory; an empty variable never gets here."""
        if path == "":
            raise ValueError("is an empty path; leave it out for the default")
        return path

    @field_validator(*_PATHS)
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Resolve a relative path now: the serving process has another working directory later."""
        return None if path is None else Path(os.path.abspath(path))

    @field_validator("default_size")
    @classmethod
    def _check_size(cls, text: str) -> str:
        if text:
            try:
                parse_size(text)
            except InvalidSize as error:
                raise ValueError(error.cause) from error
        return text

    @field_validator("default_fs")
    @classmethod
    def _check_filesystem(cls, text: str) -> str:
        if text.strip().lower() not in FILESYSTEMS:
            raise ValueError(f"is one of {', '.join(FILESYSTEMS)}")
        return text.strip().lower()

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, text: str) -> str:
        if text.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("is one of debug, info, warning, error")
        return text.lower()

    @field_validator("profiles", mode="before")
    @classmethod
    def _values_as_text(cls, tables: Any) -> Any:  # noqa: ANN401  # unchecked contents of a file
        """Let files say `size = 10` and `iops = 3000` without quotes, as options do."""
        if not isinstance(tables, dict):
            return tables
        return {
            name: {key: str(value) for key, value in table.items()} if isinstance(table, dict) else table
            for name, table in tables.items()
        }

    @model_validator(mode="after")
    def _check_backends(self) -> Self:
        for name in self.backends:
            if _BACKEND_NAME.fullmatch(name) is None:
                raise ValueError(
                    f"backend name {name!r} is not allowed: use a-z 0-9 _ - and at most 32 characters"
                )
        if self.backend and self.backends and self.backend not in self.backends:
            raise ValueError(f"backend is {self.backend!r}, but there are {', '.join(sorted(self.backends))}")
        if not self.backend and len(self.backends) > 1:
            raise ValueError(f"backend names none of {', '.join(sorted(self.backends))} as the default")
        return self

    @property
    def configured_backends(self) -> Mapping[str, BackendTable]:
        """Return the backends; with none configured, one named like its driver: `backend`, or loop."""
        if self.backends:
            return self.backends
        driver = self.backend or "loop"
        return {driver: BackendTable(driver=driver)}

    @property
    def default_backend(self) -> str:
        """Return the name of the backend for volumes created without `-o backend=`."""
        return self.backend or next(iter(self.configured_backends))

    @property
    def resolved_mount_root(self) -> Path:
        """Return the directory below which volumes are mounted."""
        return self.mount_root or self.state_dir / "mounts"

    @property
    def resolved_state_marker(self) -> Path | None:
        """Return the path of the copy of the state id, or None for no copy."""
        if self.state_marker is not None:
            return self.state_marker
        return DEFAULT_STATE_MARKER if self.state_dir == DEFAULT_STATE_DIR else None


def load_settings(flags: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: a flag takes precedence over the environment, and that over the file.

    Args:
        flags: Setting to text, as given on the command line; `config` names another file.

    Raises:
        ConfigurationError: With the name of the wrong setting and the reason.
    """
    given = dict(flags or {})
    named = given.pop("config", "") or os.environ.get("VOLPLUG_CONFIG", "")
    path = Path(named) if named else DEFAULT_CONFIG
    from_file = _read_file(path, must_exist=bool(named))
    try:
        return Settings(**_merged(from_file, given))
    except SettingsError as error:
        raise ConfigurationError(f"settings: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"setting {where}: {why}" if where else f"settings: {why}") from error


def _merged(from_file: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """Merge file and flags, without the file's values that are in the environment, which pydantic reads."""
    in_environment = {name for name in Settings.model_fields if os.environ.get(f"VOLPLUG_{name.upper()}")}
    less = {**from_file, **_from_rexray()}
    return {**{key: less[key] for key in less.keys() - in_environment}, **flags}


def rexray_variables() -> tuple[str, ...]:
    """Return the names of REX-Ray's variables that are set, for the log."""
    return tuple(sorted(name for name in REXRAY_VARIABLES if os.environ.get(name)))


def _from_rexray() -> dict[str, str]:
    """Read REX-Ray's variables; volplug's own take precedence."""
    return {
        setting: words.get(text.lower(), text)
        for name, (setting, words) in REXRAY_VARIABLES.items()
        if (text := os.environ.get(name, ""))
    }


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        if must_exist:
            raise ConfigurationError(f"the configuration file {path} does not exist") from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error}") from error
