"""Reads the settings: flags take precedence over `VOLPLUG_*`, then come REX-Ray's variables, then the file.

An empty variable counts as unset, because a managed plugin's settable variables are always present.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from volplug.config.mistakes import combined, described, did_you_mean, nearest
from volplug.config.settings import DEFAULT_CONFIG, EVERY_ADDRESS, TABLES, Settings
from volplug.errors import ConfigurationError
from volplug.host.filesystems import FILESYSTEMS
from volplug.masking import quoted

# The setting that each means, and that setting's word for each of its values.
REXRAY_VARIABLES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "REXRAY_FSTYPE": ("default_fs", {name: name for name in FILESYSTEMS}),
    "REXRAY_LOGLEVEL": (
        "log_level",
        {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"},
    ),
    # It took volumes from any node; here it requires proof that the node is dead.
    "REXRAY_PREEMPT": ("takeover", {"true": "proof", "false": "never", "1": "proof", "0": "never"}),
}
# Of the command line; they may be in the environment of a shell that starts volplug.
CLIENT_VARIABLES: Final = frozenset(
    f"VOLPLUG_{name}" for name in ("HOST", "CONTEXT", "TOKEN_FILE", "TLSCACERT", "TLSCERT", "TLSKEY")
)


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
    """Read the settings; `flags` are those of the command line, of which `config` names another file.

    Raises:
        ConfigurationError: With the first mistake, and how many more there are.
    """
    read = read_settings(flags)
    if read.mistakes:
        raise combined(read.mistakes)
    return read.settings


def read_settings(flags: Mapping[str, str] | None = None) -> ReadSettings:
    """Read the settings as `load_settings` does, and find all mistakes."""
    values: dict[str, Any] = dict(flags or {})
    named = values.pop("config", "") or os.environ.get("VOLPLUG_CONFIG", "")
    names = {setting: f"flag {flag_of(setting)}" for setting in values}
    mistakes = _read_environment(values, names)
    path, file = Path(named) if named else DEFAULT_CONFIG, ""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8")) | values
        file = str(path)
    except (OSError, ValueError) as error:
        if named or not isinstance(error, FileNotFoundError):
            mistakes.append(
                ConfigurationError(f"the configuration file {path} cannot be read: {_why(error)}")
            )
    wrong: ValidationError | None = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        wrong, settings = error, Settings.model_validate(_without_wrong(values, error))
    settings._names, settings._file = names, file
    mistakes += _mistakes_of_default(values, settings)
    mistakes += _mistakes_of_control(settings)
    mistakes += _mistakes_of_cluster(settings)
    if wrong is not None:
        mistakes += described(wrong, Settings.model_fields, settings.place)
    tables = values.get("backends", {})
    has_all_backends = isinstance(tables, dict) and settings.backends.keys() == tables.keys()
    return ReadSettings(settings, has_all_backends, tuple(mistakes))


def flag_of(setting: str) -> str:
    """Return the flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def variable_of(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"VOLPLUG_{setting.upper()}"


def ignored_variables() -> Mapping[str, str]:
    """Return the unknown `VOLPLUG_` variables, and for each the one that may be meant, or ""."""
    known = {variable_of(setting): setting for setting in ("config", *Settings.model_fields)}
    near = {
        name: nearest(name.partition("_")[2], known.values())
        for name, text in sorted(os.environ.items())
        if text and name.upper().startswith("VOLPLUG_") and name not in known and name not in CLIENT_VARIABLES
    }
    return {name: variable_of(setting) if setting else "" for name, setting in near.items()}


def _why(error: OSError | ValueError) -> str | None:
    """Return why a file cannot be read, without the words of Python."""
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, tomllib.TOMLDecodeError):
        return str(error)
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number in it is too long"


def _read_environment(values: dict[str, Any], names: dict[str, str]) -> list[ConfigurationError]:
    """Add what the flags have left to the environment; return what is wrong there."""
    mistakes = []
    for setting in Settings.model_fields:
        name = variable_of(setting)
        text = os.environ.get(name)
        if text and setting in TABLES:
            cause = f"variable {name}: {setting} are set in the configuration file only"
            mistakes.append(ConfigurationError(cause, "VOLPLUG_CONFIG names the file"))
        elif text and setting not in values:
            values[setting], names[setting] = text, f"variable {name}"
    for name, (setting, words) in REXRAY_VARIABLES.items():
        text = os.environ.get(name)
        if not text or setting in values:
            continue
        if word := words.get(text.strip().lower()):
            values[setting], names[setting] = word, f"variable {name}"
        else:
            cause = f"variable {name}: {quoted(text)} is not allowed"
            mistakes.append(ConfigurationError(cause, f"Write {', '.join(words)}"))
    return mistakes


def _mistakes_of_default(values: Mapping[str, Any], settings: Settings) -> list[ConfigurationError]:
    """Find what is wrong with the choice of the default backend."""
    tables, default = values.get("backends"), values.get("backend")
    if not isinstance(tables, dict) or not tables:
        return []
    listed = ", ".join(sorted(tables))
    if isinstance(default, str) and default and default not in tables:
        cause = f"{settings.place('backend')}: there is no backend {quoted(default)}"
        return [ConfigurationError(cause, f"{did_you_mean(default, tables)}Backends are {listed}")]
    if not default and len(tables) > 1:
        cause = f"{settings.place('backends')}: none of {listed} is the default"
        return [ConfigurationError(cause, f"Set backend to one of {listed}")]
    return []


def _mistakes_of_control(settings: Settings) -> list[ConfigurationError]:
    """Find what is missing for the control API on TCP: it is never served there without TLS."""
    if not settings.control_listen:
        return []
    place = settings.place("control_listen")
    missing = [
        setting
        for setting in ("control_cert", "control_key", "control_access")
        if not getattr(settings, setting)
    ]
    mistakes = [ConfigurationError(f"{place}: {each} is not set", "See docs/api.md") for each in missing]
    if not settings.resolved_control_names:
        cause = f"{place}: it listens on every address, and control_names is not set"
        mistakes.append(ConfigurationError(cause, "Name the host as clients call it"))
    return mistakes


def _mistakes_of_cluster(settings: Settings) -> list[ConfigurationError]:
    """Find what contradicts itself in the settings of the cluster."""
    causes = []
    if settings.cluster_etcd and settings.nodes:
        causes.append(("nodes", "etcd is set as well, which has the nodes"))
    if bool(settings.cluster_etcd_user) != (settings.cluster_etcd_password_file is not None):
        causes.append(("cluster_etcd_user", "user and password of etcd belong together"))
    if settings.cluster_address.rpartition(":")[0].strip("[]") in EVERY_ADDRESS:
        causes.append(("cluster_address", "other nodes cannot reach this address"))
    return [
        ConfigurationError(f"{settings.place(setting)}: {cause}", "See docs/cluster.md")
        for setting, cause in causes
    ]


def _without_wrong(values: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """Return the values that are right; of tables, those that are."""
    right = dict(values)
    for detail in error.errors(include_url=False):
        setting, *below = (str(part) for part in detail["loc"])
        if below:
            right[setting] = {name: table for name, table in right[setting].items() if name != below[0]}
        else:
            right.pop(setting, None)
    if values.get("backends") and not right.get("backends"):
        right.pop("backend", None)  # it names one of those
    return right
