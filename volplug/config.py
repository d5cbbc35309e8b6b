"""Settings of this host: flags, environment (`VOLPLUG_*`), then /etc/volplug/config.toml.

An empty environment variable counts as unset, because a managed plugin's settable variables are always
present; every default is defined here, because an upgraded plugin keeps its old environment.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from volplug.errors import ConfigurationError, InvalidSize
from volplug.host.filesystems import FILESYSTEMS
from volplug.masking import quoted
from volplug.mistakes import Number, combined, described, nearest
from volplug.models import TakeoverPolicy
from volplug.sizes import parse_size
from volplug.sources import SettingsSource, from_environment, from_flags, from_rexray, place_of, read_file
from volplug.variables import variable_of

DEFAULT_CONFIG: Final = Path("/etc/volplug/config.toml")
DEFAULT_STATE_DIR: Final = Path("/var/lib/volplug")
DEFAULT_STATE_MARKER: Final = Path("/etc/volplug/state-id")
TABLES: Final = ("backends", "profiles")  # in the file only
_PATHS: Final = ("socket", "state_dir", "state_marker", "mount_root")
_LogLevel = Literal["debug", "info", "warning", "error"]
_WORDS: Final = frozenset({*FILESYSTEMS, *get_args(_LogLevel), *TakeoverPolicy})
_BACKEND_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


class BackendTable(BaseModel):
    """One `[backends.NAME]` table; the driver checks its own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    driver: str

    @property
    def driver_settings(self) -> Mapping[str, object]:
        """Return everything but the driver's name."""
        return dict(self.model_extra or {})


class Settings(BaseModel):
    """All settings, checked. Their descriptions are those of `--help` and of docs/configuration.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    socket: Path = Field(
        default=Path("/run/docker/plugins/volplug.sock"),
        description="Path of the plugin's socket; its name without .sock is the driver's name",
    )
    state_dir: Path = Field(
        default=DEFAULT_STATE_DIR,
        description="Directory of this host's state and, by default, of the loop volumes; "
        "closed to other users",
    )
    state_marker: Path | None = Field(
        default=None,
        description="Path of a copy of the state directory's id",
        json_schema_extra={
            "unset": "/etc/volplug/state-id for the default state directory, none for another"
        },
    )
    mount_root: Path | None = Field(
        default=None,
        description="Directory below which volumes are mounted; closed to other users, too",
        json_schema_extra={"unset": "mounts in the state directory"},
    )
    backend: str = Field(
        default="",
        description="The backend of volumes created without -o backend=",
        json_schema_extra={"unset": "the only one configured, else loop"},
    )
    cluster: str = Field(
        default="",
        description="Name shared by the hosts that share volumes; ebs needs one",
        json_schema_extra={"unset": "none"},
    )
    node_id: str = Field(
        default_factory=platform.node,
        description="Name of this host",
        json_schema_extra={"unset": "the host's name"},
    )
    default_size: str = Field(
        default="",
        description="Size of volumes created without one",
        json_schema_extra={"unset": "the driver's own (loop: 1GiB, ebs: 10GiB)"},
    )
    default_fs: str = Field(
        default="ext4", description=f"Filesystem of volumes created without one: {', '.join(FILESYSTEMS)}"
    )
    linger_s: Number | None = Field(
        default=None,
        ge=0,
        description="Seconds that a volume stays attached after its last unmount",
        json_schema_extra={"unset": "the driver's own (loop: 0, ebs: 5)"},
    )
    slow_answer_s: Number = Field(
        default=110, gt=0, description="Seconds to answer Create and Mount; Docker waits 120"
    )
    answer_s: Number = Field(
        default=50, gt=0, description="Seconds to answer everything else; Docker waits 60"
    )
    mount_grace_s: Number = Field(
        default=60, ge=0, description="Seconds before an answered Mount may be checked by a trial release"
    )
    release_wait_s: Number = Field(
        default=20, ge=0, description="Seconds that a Mount waits for another host to detach the volume"
    )
    takeover: TakeoverPolicy = Field(
        default=TakeoverPolicy.PROOF,
        description="When a Mount may take over a volume from a host that does not detach it: "
        "proof, fence or never; see docs/safety.md",
    )
    log_level: _LogLevel = Field(default="info", description="debug, info, warning or error")
    backends: dict[str, BackendTable] = Field(default_factory=dict, description="Name to table")
    profiles: dict[str, dict[str, str]] = Field(default_factory=dict, description="Name to option defaults")
    _sources: tuple[SettingsSource, ...] = PrivateAttr(())

    @field_validator(*_PATHS, mode="before")
    @classmethod
    def _refuse_empty(cls, path: object) -> object:
        """Refuse an empty path, which would mean the current directory; an empty variable never gets here."""
        if path == "":
            raise ValueError("the path is empty", "Leave it out for the default")
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
                raise ValueError(error.cause, error.remedy) from error
        return text

    @field_validator("default_fs")
    @classmethod
    def _check_filesystem(cls, text: str) -> str:
        if text not in FILESYSTEMS:
            raise ValueError(f"{quoted(text)} is not allowed", f"Write one of {', '.join(FILESYSTEMS)}")
        return text

    @field_validator("default_fs", "log_level", "takeover", mode="before")
    @classmethod
    def _ignore_case(cls, word: object) -> object:
        """Fold known words only: errors quote others as written, because masks depend on case."""
        folded = word.strip().lower() if isinstance(word, str) else ""
        return folded if folded in _WORDS else word

    @field_validator("profiles", mode="before")
    @classmethod
    def _values_as_text(cls, tables: Any) -> Any:  # noqa: ANN401  # unchecked contents of a file
        """Let files say `size = 10` and `encrypted = true` without quotes, as options do."""
        if not isinstance(tables, dict):
            return tables
        return {
            name: {key: _as_text(value) for key, value in table.items()} if isinstance(table, dict) else table
            for name, table in tables.items()
        }

    @property
    def file(self) -> str:
        """Return the path of the configuration file, for errors."""
        return next((source.file for source in self._sources if source.file), "")

    def place(self, *location: str) -> str:
        """Return where a setting, or a key of its table, was given, for errors."""
        return place_of(self._sources, location)

    @property
    def is_backend_chosen(self) -> bool:
        """Tell whether the default backend was chosen, not left to be loop."""
        return bool(self.backend or self.backends)

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


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Settings as far as they are right, and all mistakes.

    Attributes:
        settings: Without those that are wrong.
        has_all_backends: Whether all of the file's backends are in them.
        mistakes: What is wrong with the others.
    """

    settings: Settings
    has_all_backends: bool
    mistakes: tuple[ConfigurationError, ...]


def load_settings(flags: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: a flag takes precedence over the environment, and that over the file.

    Args:
        flags: Setting to text, as given on the command line; `config` names another file.

    Raises:
        ConfigurationError: With where the first mistake is, what is wrong and what is allowed.
    """
    read = read_settings(flags)
    if read.mistakes:
        raise combined(read.mistakes)
    return read.settings


def read_settings(flags: Mapping[str, str] | None = None) -> ReadSettings:
    """Read the settings as `load_settings` does, and find all mistakes."""
    given = dict(flags or {})
    named = given.pop("config", "") or os.environ.get("VOLPLUG_CONFIG", "")
    path = Path(named) if named else DEFAULT_CONFIG
    mistakes: list[ConfigurationError] = []
    try:
        in_file = read_file(path, must_exist=bool(named))
    except ConfigurationError as error:
        mistakes.append(error)
        in_file = {}
    sources = (
        from_flags(given),
        from_environment(name for name in Settings.model_fields if name not in TABLES),
        from_rexray(),
        SettingsSource(in_file, file=str(path)),
    )
    values: dict[str, Any] = {}
    for source in reversed(sources):
        values |= source.values
    mistakes += _tables_in_environment()
    mistakes += _backend_mistakes(values, sources)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        mistakes += _in_plain_words(error, sources)
        settings = Settings.model_validate(_without_wrong(values, error))
    settings._sources = sources
    tables = values.get("backends", {})
    has_all_backends = isinstance(tables, dict) and settings.backends.keys() == tables.keys()
    return ReadSettings(settings, has_all_backends, tuple(mistakes))


def default_text(setting: str) -> str:
    """Return the default of a setting as `--help` shows it."""
    about = Settings.model_fields[setting]
    extra = about.json_schema_extra
    return str(extra["unset"] if isinstance(extra, dict) else about.default)


def _in_plain_words(error: ValidationError, sources: Sequence[SettingsSource]) -> list[ConfigurationError]:
    known = Settings.model_fields.keys()
    mistakes = described(error, known, lambda location: place_of(sources, location))
    for at, detail in enumerate(error.errors(include_url=False)):
        setting = detail["loc"][0]
        source = next(each for each in sources if setting in each.values)
        if setting in source.allowed:
            mistakes[at] = ConfigurationError(mistakes[at].cause, f"Write {source.allowed[str(setting)]}")
    return mistakes


def _without_wrong(values: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """Return the values that are right; of tables, those that are."""
    right = dict(values)
    for detail in error.errors(include_url=False):
        setting, *below = detail["loc"]
        if setting in TABLES and below:
            right[setting] = {name: table for name, table in right[setting].items() if name != below[0]}
        else:
            right.pop(str(setting), None)
    if values.get("backends") and not right.get("backends"):
        right.pop("backend", None)  # it names one of those
    return right


def _backend_mistakes(
    values: Mapping[str, Any], sources: Sequence[SettingsSource]
) -> list[ConfigurationError]:
    """Find what is wrong with the names of the backends, and with the choice of the default one."""
    names, default = values.get("backends"), values.get("backend")
    if not isinstance(names, dict) or not names:
        return []
    mistakes = [
        ConfigurationError(
            f"{place_of(sources, ('backends', name))}: the name is not allowed",
            "Use a-z 0-9 _ - and at most 32 characters",
        )
        for name in names
        if _BACKEND_NAME.fullmatch(name) is None
    ]
    listed = ", ".join(sorted(names))
    if not default and len(names) > 1:
        where = place_of(sources, ("backends",))
        mistakes.append(
            ConfigurationError(f"{where}: none of {listed} is the default", f"Set backend to one of {listed}")
        )
    elif isinstance(default, str) and default and default not in names:
        near = nearest(default, names)
        hint = f"Did you mean {near}? " if near else ""
        mistakes.append(
            ConfigurationError(
                f"{place_of(sources, ('backend',))}: there is no backend {quoted(default)}",
                f"{hint}Backends are {listed}",
            )
        )
    return mistakes


def _tables_in_environment() -> list[ConfigurationError]:
    return [
        ConfigurationError(
            f"variable {variable_of(name)}: {name} are set in the configuration file only",
            "VOLPLUG_CONFIG names the file",
        )
        for name in TABLES
        if os.environ.get(variable_of(name))
    ]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
