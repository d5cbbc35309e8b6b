"""The SDK of a cloud, which is installed only where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from volplug.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Sdk:
    """The SDK of a cloud.

    Attributes:
        cloud: Whose it is.
        module: What is imported.
        extra: Volplug's extra that installs it.
    """

    cloud: str
    module: str
    extra: str

    def is_installed(self) -> bool:
        """Tell whether it can be imported, without doing so, which is slow."""
        return find_spec(self.module) is not None

    def missing(self, why: str = "") -> ConfigurationError:
        """Return the error for an SDK that is not installed."""
        return ConfigurationError(
            f"the SDK of {self.cloud} is not installed: {why or f'no module named {self.module}'}",
            f"Install volplug with its extra: volplug[{self.extra}]",
        )
