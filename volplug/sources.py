"""Where settings are given: flags, environment, REX-Ray's variables, the file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volplug.errors import ConfigurationError
from volplug.mistakes import Location
from volplug.variables import rexray_in_force, variable_of


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """Some settings, and where they were given.

    Attributes:
        values: Setting to unchecked value.
        names: Setting to its flag or variable; empty for the file.
        file: The file, if it is that.
        allowed: Setting to its values, where those have words of their own.
    """

    values: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    allowed: Mapping[str, str] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Return where a value is."""
        key = ".".join(str(part) for part in location)
        return f"{key} in {self.file}" if self.file else self.names[str(location[0])]


def flag_of(setting: str) -> str:
    """Return the flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def place_of(sources: Sequence[SettingsSource], location: Location) -> str:
    """Return where a value is that was given by the first source that has it."""
    for source in sources:
        if location and location[0] in source.values:
            return source.place(location)
    return ".".join(str(part) for part in location)


def from_flags(flags: Mapping[str, str]) -> SettingsSource:
    """Return the settings of the command line."""
    return SettingsSource(flags, {name: f"flag {flag_of(name)}" for name in flags})


def from_environment(settings: Iterable[str]) -> SettingsSource:
    """Read volplug's own variables."""
    values = {name: text for name in settings if (text := os.environ.get(variable_of(name)))}
    return SettingsSource(values, {name: f"variable {variable_of(name)}" for name in values})


def from_rexray() -> SettingsSource:
    """Read REX-Ray's variables; volplug's own take precedence."""
    found = {variable.setting: (name, variable) for name, variable in rexray_in_force().items()}
    return SettingsSource(
        {
            setting: variable.words.get(os.environ[name].lower(), os.environ[name])
            for setting, (name, variable) in found.items()
        },
        {setting: f"variable {name}" for setting, (name, _) in found.items()},
        allowed={setting: variable.allowed for setting, (_, variable) in found.items()},
    )


def read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Read the file; one that does not have to exist may be missing.

    Raises:
        ConfigurationError: If it cannot be read, or is no TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        if must_exist:
            raise ConfigurationError(f"the configuration file {path} does not exist") from error
        return {}
    except (OSError, ValueError) as error:
        # A ValueError: no UTF-8, no TOML, or a number with too many digits.
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"the configuration file {path} cannot be read: {why}") from error
