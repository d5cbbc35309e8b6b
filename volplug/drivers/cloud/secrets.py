"""Secrets in the environment, or in files that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from volplug.errors import ConfigurationError


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
