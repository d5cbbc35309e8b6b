"""Settings of clouds from the environment: variables that others have named, and secrets in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volplug.config.mistakes import WholeNumber, combined, described
from volplug.drivers.base import BackendConfig
from volplug.drivers.cloud.timeouts import CloudTimeouts
from volplug.errors import ConfigurationError
from volplug.masking import keep_secret


class CloudSettings(BaseModel):
    """The settings that backends on all clouds have; empty means unset.

    Attributes:
        availability_zone: Zone of new volumes; by default that of this host.
        max_retries: How often a call that is throttled or gets no answer is retried, within its time.
        sys_root: Path of sysfs (for tests).
        dev_root: Directory of device nodes (for tests).
        proof_s: Time between the two reads that prove a node dead (for tests).
        poll_s: Time between two polls at first (for tests).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)

    availability_zone: str = ""
    max_retries: WholeNumber = Field(default=8, ge=0, le=50)
    sys_root: Path = Path("/sys")
    dev_root: Path = Path("/dev")
    proof_s: float = Field(default=CloudTimeouts().proof_s, ge=0)
    poll_s: float = Field(default=CloudTimeouts().poll_first_s, gt=0)


_ModelT = TypeVar("_ModelT", bound=CloudSettings)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings are read, besides the backend's table, which takes precedence.

    Attributes:
        variables: Of each setting, the first that is not empty.
        credentials: Of credentials, which all come from one source; {} if there are none.
        credential_settings: One of them in the table makes that the source.
        for_tests: Settings that errors do not name.
        secrets: Settings whose values errors do not show.
    """

    variables: Mapping[str, Sequence[str]]
    credentials: Callable[[Mapping[str, str]], Mapping[str, str]]
    credential_settings: Collection[str]
    for_tests: Collection[str]
    secrets: Collection[str]


def load(
    model: type[_ModelT], sources: Sources, config: BackendConfig, environment: Mapping[str, str] | None
) -> _ModelT:
    """Return the settings of a backend; fields without a repr are masked from here on.

    An empty variable counts as unset: a managed plugin's settable variables are always present.

    Args:
        model: Of the settings.
        sources: Where they are read.
        config: The backend's configuration.
        environment: By default this process's.

    Raises:
        ConfigurationError: Naming the setting that is wrong and why.
    """
    variables = os.environ if environment is None else environment
    table = {key: value for key, value in config.settings.items() if value != ""}
    named = {
        setting: name
        for setting, names in sources.variables.items()
        if (name := next((each for each in names if variables.get(each)), ""))
    }
    if not any(key in table for key in sources.credential_settings):
        named |= sources.credentials(variables)
    named = {setting: name for setting, name in named.items() if setting not in table}
    found = {**{setting: secret_of(name, variables) for setting, name in named.items()}, **table}
    for name, field in model.model_fields.items():
        if not field.repr:
            keep_secret(str(found.get(name, "")).strip())  # as the model reads it
    try:
        return model.model_validate(found)
    except ValidationError as error:

        def place(*location: object) -> str:
            variable = named.get(str(location[0])) if location else None
            return f"variable {variable}" if variable else config.place(*location)

        known = model.model_fields.keys() - sources.for_tests | {"driver"}
        # Not from the original, which shows values: secrets.
        raise combined(described(error, known, place, sources.secrets)) from None


def present(names: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return those of one source's variables, by setting, that have a value or name a file with it."""
    return {
        setting: name
        for setting, name in names.items()
        if variables.get(name) or variables.get(f"{name}_FILE")
    }


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
