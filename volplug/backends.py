"""The configured backends: builds their drivers, checks profiles, doubts a default that was not chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from volplug.config import BackendTable, Settings
from volplug.drivers.base import BackendConfig, Driver, DriverInfo
from volplug.drivers.registry import DriverFactory, driver_factory, is_installed
from volplug.errors import ConfigurationError, VolplugError
from volplug.mistakes import combined
from volplug.steps import OnStep, unannounced
from volplug.variables import cloud_variables
from volplug.volumes.options import check_profile_option


@dataclass(slots=True)
class BuiltBackends:
    """What came of the settings of the backends.

    Attributes:
        drivers: Name to driver, without those that could not be built.
        infos: The constants of all drivers; empty if those of one are not known.
        mistakes: What is wrong with the others.
    """

    drivers: dict[str, Driver] = field(default_factory=dict)
    infos: list[DriverInfo] = field(default_factory=list)
    mistakes: list[ConfigurationError] = field(default_factory=list)


def build_drivers(settings: Settings, on_step: OnStep = unannounced) -> dict[str, Driver]:
    """Build the drivers of all configured backends; none asks its backend anything yet.

    Raises:
        ConfigurationError: If a backend's settings are wrong, or those of a profile.
    """
    built = try_backends(settings, on_step)
    if mistakes := [*built.mistakes, *profile_mistakes(settings, built.infos)]:
        raise combined(mistakes)
    return built.drivers


def try_backends(settings: Settings, on_step: OnStep = unannounced) -> BuiltBackends:
    """Build the drivers that can be built, and find all mistakes in the tables of the others."""
    built = BuiltBackends()
    for name, table in settings.configured_backends.items():
        try:
            factory = driver_factory(table.driver)
        except ConfigurationError as error:
            is_in_table = bool(settings.backends)
            where = settings.place("backends", name, "driver") if is_in_table else settings.place("backend")
            built.mistakes.append(ConfigurationError(f"{where}: {error.cause}", error.remedy))
            continue
        try:
            driver = factory(_backend_config(settings, name, table, on_step))
        except ConfigurationError as error:
            built.mistakes += error.mistakes or [error]
            built.infos += _info_without_settings(factory, name, settings)
        else:
            built.drivers[name] = driver
            built.infos.append(driver.info)
    if len(built.infos) < len(settings.configured_backends):
        built.infos.clear()  # what one driver does not take, an unknown one may
    return built


def profile_mistakes(settings: Settings, infos: list[DriverInfo]) -> list[ConfigurationError]:
    """Find values of profiles that cannot be read, and options that none of the drivers takes."""
    mistakes = []
    for name, options in settings.profiles.items():
        for key, value in options.items():
            try:
                check_profile_option(key, value, infos)
            except VolplugError as error:
                where = settings.place("profiles", name, key)
                mistakes.append(ConfigurationError(f"{where}: {error.cause}", error.remedy))
    return mistakes


def doubt_of(settings: Settings) -> tuple[ConfigurationError, bool] | None:
    """Return why loop, which was not chosen, may not be expected, and whether to refuse it for that."""
    found = None if settings.is_backend_chosen else cloud_variables()
    if found is None:
        return None
    cloud, names = found
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    cause = f"no backend is chosen, but variables of {cloud.driver} are set ({listed})"
    remedy = "Set VOLPLUG_BACKEND=loop for volumes on this host's disk"
    if is_installed(cloud.driver):
        remedy = f"Set VOLPLUG_BACKEND={cloud.driver}, or VOLPLUG_BACKEND=loop for this host's disk"
    else:
        cause += f", and driver {cloud.driver} is not installed"
    return ConfigurationError(cause, remedy), cloud.are_for_volumes


def _backend_config(settings: Settings, name: str, table: BackendTable, on_step: OnStep) -> BackendConfig:
    return BackendConfig(
        name,
        settings.node_id,
        settings.cluster,
        settings.state_dir,
        table.driver_settings,
        on_step,
        settings.file if settings.backends else "",
    )


def _info_without_settings(factory: DriverFactory, name: str, settings: Settings) -> list[DriverInfo]:
    """Return the constants of a driver whose settings are wrong, so that profiles can be checked."""
    try:
        return [factory(BackendConfig(name, settings.node_id, settings.cluster, settings.state_dir)).info]
    except ConfigurationError:
        return []
