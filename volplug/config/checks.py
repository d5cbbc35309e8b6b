"""Checks beyond single settings: drivers and profiles, `check-config`, what the log warns of at the start.

Drivers are built here, not in `app.py`, so that `check-config` finds their mistakes without the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from volplug.config.mistakes import combined, placed
from volplug.config.reading import REXRAY_VARIABLES, ignored_variables, read_settings
from volplug.config.settings import Settings
from volplug.drivers.base import BackendConfig, Driver, DriverInfo, HasRequirements, Scope
from volplug.drivers.registry import driver_factory
from volplug.errors import ConfigurationError, VolplugError
from volplug.metrics import Metrics, uncounted
from volplug.models import TakeoverPolicy
from volplug.steps import OnStep, unannounced
from volplug.volumes.options import check_profile_option

_LOG = structlog.get_logger(__name__)

# The beginnings of names of variables, the driver that they are for, and whether they were set for a volume
# plugin, as REX-Ray's were; those of a cloud's own tools are set on many machines. The first match counts.
DRIVER_VARIABLES: Final = (
    (("ZFS_POOL",), "zfs", True),
    (("EBS_",), "ebs", True),
    (("CINDER_",), "cinder", True),
    (("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), "ebs", False),
    (("OS_AUTH_URL", "OS_CLOUD"), "cinder", False),
)


def check(
    flags: Mapping[str, str], of_flags: Sequence[ConfigurationError] = ()
) -> tuple[Sequence[ConfigurationError], str]:
    """Check the whole configuration, without a call to any backend and without any change.

    Returns:
        All mistakes, `of_flags` among them; and the report, which has warnings, too, and what is in force.
    """
    read = read_settings(flags)
    drivers, mistakes = try_backends(read.settings, has_all=read.has_all_backends)
    mistakes = [*of_flags, *read.mistakes, *mistakes]
    for name, driver in drivers.items():
        mistakes += [placed(f"backend {name}", error) for error in _unmet(driver)]
    lines = [f"wrong: {_whole(mistake)}" for mistake in mistakes]
    for name, near in ignored_variables().items():
        hint = f", did you mean {near}?" if near else ""
        lines.append(f"warning: unknown variable {name} is ignored{hint}")
    if doubt := doubt_of(read.settings):
        effect = ". Until then Create is refused, unless this host has loop volumes" if doubt[1] else ""
        lines.append(f"warning: {_whole(doubt[0])}{effect}")
    if scope_doubt := scope_doubt_of(drivers):
        lines.append(f"warning: {scope_doubt}")
    return mistakes, "\n".join(lines if mistakes else [*lines, *_in_force(read.settings, drivers)])


def build_drivers(
    settings: Settings, on_step: OnStep = unannounced, metrics: Metrics | None = None
) -> dict[str, Driver]:
    """Build the drivers of all configured backends; none asks its backend anything yet.

    Raises:
        ConfigurationError: If a backend's settings are wrong, or those of a profile.
    """
    drivers, mistakes = try_backends(settings, on_step, metrics)
    if mistakes:
        raise combined(mistakes)
    return drivers


def doubt_of(settings: Settings) -> tuple[ConfigurationError, bool] | None:
    """Return why loop, which was not chosen, may not be expected, and whether to refuse it for that."""
    if settings.backend or settings.backends:
        return None
    for prefixes, driver, are_for_volumes in DRIVER_VARIABLES:
        if names := sorted(name for name, text in os.environ.items() if text and name.startswith(prefixes)):
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            cause = f"no backend is chosen, but variables of {driver} are set ({listed})"
            remedy = f"Set VOLPLUG_BACKEND={driver}, or VOLPLUG_BACKEND=loop for this host's disk"
            return ConfigurationError(cause, remedy), are_for_volumes
    return None


def warn_of_variables(settings: Settings) -> None:
    """Warn of variables that are ignored, or mean something else than they did or may seem to."""
    for name, near in ignored_variables().items():
        _LOG.warning("unknown variable ignored", variable=name, **({"did_you_mean": near} if near else {}))
    rexray = {name: setting for name, (setting, _) in REXRAY_VARIABLES.items()}
    if taken := [name for name, setting in rexray.items() if settings.place(setting) == f"variable {name}"]:
        _LOG.info("variables of REX-Ray are in force", set=",".join(sorted(taken)))
    if "REXRAY_PREEMPT" in taken and settings.takeover is TakeoverPolicy.PROOF:
        _LOG.warning("REXRAY_PREEMPT takes volumes only from hosts that are proven dead")
    if doubt := doubt_of(settings):
        _LOG.warning("loop is the default backend, which was not chosen", reason=str(doubt[0]))


def scope_doubt_of(drivers: Mapping[str, Driver]) -> str:
    """Return what is wrong with backends of both scopes in one plugin, "" if there are none."""
    local = [name for name, driver in drivers.items() if driver.info.scope is Scope.LOCAL]
    if not 0 < len(local) < len(drivers):
        return ""
    return (
        f"backend {local[0]} is local to this host, so that Docker takes the volumes of all backends for"
        " local ones; Swarm needs a plugin for those that hosts share, and another for the rest"
    )


def warn_of_scope(drivers: Mapping[str, Driver]) -> None:
    """Warn of backends of both scopes: Docker knows one scope per plugin."""
    if doubt := scope_doubt_of(drivers):
        _LOG.warning("scope of all volumes is local", reason=doubt)


async def warn_of_unusable_backends(drivers: Mapping[str, Driver], timeout_s: float = 60.0) -> None:
    """Check each backend once and warn of those that cannot be used: one cheap call to each."""
    await asyncio.gather(*(_ask(name, driver, timeout_s) for name, driver in drivers.items()))


async def _ask(name: str, driver: Driver, timeout_s: float) -> None:
    unmet = _unmet(driver)
    for error in unmet:
        _LOG.warning("backend cannot be used", backend=name, error=str(error))
    if unmet:
        return
    try:
        async with asyncio.timeout(timeout_s):
            await driver.health()
    except VolplugError as error:
        _LOG.warning("backend cannot be used", backend=name, error=str(error))
    except TimeoutError:
        _LOG.warning("backend does not answer", backend=name, after_s=timeout_s)
    except Exception:  # a bug of the driver
        _LOG.exception("backend cannot be checked", backend=name)


def _unmet(driver: Driver) -> Sequence[ConfigurationError]:
    return driver.unmet_requirements() if isinstance(driver, HasRequirements) else ()


def try_backends(
    settings: Settings,
    on_step: OnStep = unannounced,
    metrics: Metrics | None = None,
    *,
    has_all: bool = True,
) -> tuple[dict[str, Driver], list[ConfigurationError]]:
    """Build the drivers that can be built; find all mistakes in the tables of the others and in profiles."""
    drivers: dict[str, Driver] = {}
    infos: list[DriverInfo] = []
    mistakes: list[ConfigurationError] = []
    for name, table in settings.configured_backends.items():
        file = settings.file if settings.backends else ""
        bare = BackendConfig(name, settings.node_id, settings.cluster, settings.state_dir, file=file)
        try:
            factory = driver_factory(table.driver)
        except ConfigurationError as error:
            location = ("backends", name, "driver") if settings.backends else ("backend",)
            mistakes.append(placed(settings.place(*location), error))
            continue
        try:
            on_try = metrics.tries_of(name) if metrics else uncounted
            own = replace(bare, settings=table.model_extra or {}, on_step=on_step, on_try=on_try)
            drivers[name] = factory(own)
            infos.append(drivers[name].info)
        except ConfigurationError as error:
            mistakes += error.mistakes or [error]
            with contextlib.suppress(ConfigurationError):  # its constants are known without its settings
                infos.append(factory(bare).info)
    if not has_all or len(infos) < len(settings.configured_backends):
        infos = []  # what one driver does not take, an unknown one may
    return drivers, mistakes + _mistakes_of_profiles(settings, infos)


def _mistakes_of_profiles(settings: Settings, infos: Sequence[DriverInfo]) -> list[ConfigurationError]:
    """Find values that cannot be read, and options that none of the drivers takes."""
    mistakes = []
    for name, options in settings.profiles.items():
        for key, value in options.items():
            try:
                check_profile_option(key, value, infos)
            except VolplugError as error:
                mistakes.append(placed(settings.place("profiles", name, key), error))
    return mistakes


def _whole(mistake: ConfigurationError) -> str:
    """Return the text without the limit of those that Docker shows."""
    return f"{mistake.cause}. {mistake.remedy}".rstrip(". ")


def _in_force(settings: Settings, drivers: Mapping[str, Driver]) -> list[str]:
    lines = [f"configuration file: {settings.file or 'none'}"]
    for name, driver in drivers.items():
        default = ", the default" if name == settings.default_backend else ""
        lines.append(f"backend {name}: driver {driver.info.driver}{default}")
    return [*lines, *(f"profile {name}" for name in settings.profiles), "no mistakes found"]
