"""Finds the factory of a driver by name: a built-in one, or the entry point of an installed package."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, Protocol, cast

from volplug.config.mistakes import did_you_mean
from volplug.drivers.base import BackendConfig, Driver
from volplug.errors import ConfigurationError
from volplug.masking import quoted

ENTRY_POINT_GROUP: Final = "volplug.drivers"

_BUILT_IN: Final = {
    "cinder": "volplug.drivers.cinder:build",
    "ebs": "volplug.drivers.ebs:build",
    "loop": "volplug.drivers.loop:build",
    "zfs": "volplug.drivers.zfs:build",
}


class DriverFactory(Protocol):
    """Builds the driver of one configured backend; raises ConfigurationError if a setting is wrong."""

    def __call__(self, config: BackendConfig) -> Driver:
        """Build it, without any call to the backend."""
        ...


def driver_factory(driver: str) -> DriverFactory:
    """Import and return a driver's factory; no other driver is imported.

    Raises:
        ConfigurationError: If no such driver is installed, or it cannot be imported.
    """
    if driver in _BUILT_IN:
        module, _, attribute = _BUILT_IN[driver].partition(":")
        return cast(DriverFactory, getattr(import_module(module), attribute))
    outside = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if driver not in outside:
        known = sorted({*_BUILT_IN, *outside})
        raise ConfigurationError(
            f"driver {quoted(driver)} is not installed",
            f"{did_you_mean(driver, known)}Drivers here are {', '.join(known)}",
        )
    try:
        return cast(DriverFactory, outside[driver].load())
    except Exception as error:  # another party's package may fail in any way
        raise ConfigurationError(f"driver {driver!r} cannot be imported: {error}") from error
