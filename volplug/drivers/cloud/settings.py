"""Settings of clouds from the environment: variables that others have named, and secrets in files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from volplug.config.mistakes import combined, described
from volplug.drivers.base import BackendConfig
from volplug.errors import ConfigurationError
from volplug.masking import keep_secret

_ModelT = TypeVar("_ModelT", bound=BaseModel)


def named_variables(names: Mapping[str, Sequence[str]], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the environment has, each with its first variable that is not empty."""
    found = {
        setting: next((name for name in each if variables.get(name)), "") for setting, each in names.items()
    }
    return {setting: name for setting, name in found.items() if name}


def validated(
    model: type[_ModelT],
    found: Mapping[str, object],
    named: Mapping[str, str],
    config: BackendConfig,
    *,
    for_tests: Collection[str],
    secrets: Collection[str],
) -> _ModelT:
    """Return the settings of a backend; fields without a repr are masked from here on.

    Args:
        model: Of the settings.
        found: Their values.
        named: The variables that values are from; the others are from the backend's table.
        config: The backend's configuration.
        for_tests: Settings that errors do not name.
        secrets: Settings whose values errors do not show.

    Raises:
        ConfigurationError: Naming the setting that is wrong and why.
    """
    for name, field in model.model_fields.items():
        if not field.repr:
            keep_secret(str(found.get(name, "")).strip())  # as the model reads it
    try:
        return model.model_validate(found)
    except ValidationError as error:

        def place(*location: object) -> str:
            variable = named.get(str(location[0])) if location else None
            return f"variable {variable}" if variable else config.place(*location)

        known = model.model_fields.keys() - for_tests | {"driver"}
        # Not from the original, which shows values: secrets.
        raise combined(described(error, known, place, secrets)) from None


def secret_of(name: str, variables: Mapping[str, str]) -> str:
    """Return the value of a variable, or the contents of the file that its companion `NAME_FILE` names."""
    if value := variables.get(name, ""):
        return value
    path = variables.get(f"{name}_FILE", "")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        # Without the path, which is the secret itself if that was given by mistake.
        raise ConfigurationError(f"{name}_FILE names a file that cannot be read: {why}") from None
