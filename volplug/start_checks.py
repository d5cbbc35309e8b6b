"""What the log warns of at the start: variables without effect, and backends that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from volplug.backends import doubt_of
from volplug.config import Settings
from volplug.drivers.base import Driver, HasRequirements
from volplug.errors import VolplugError
from volplug.models import TakeoverPolicy
from volplug.variables import ignored_variables, rexray_in_force

_LOG = structlog.get_logger(__name__)
_CHECK_S: Final = 60.0


def warn_of_variables(settings: Settings) -> None:
    """Warn of variables that are ignored, or mean something else than they did or may seem to."""
    for name, near in ignored_variables(Settings.model_fields).items():
        _LOG.warning("unknown variable ignored", variable=name, **({"did_you_mean": near} if near else {}))
    if taken := rexray_in_force():
        _LOG.info("variables of REX-Ray are in force", set=",".join(sorted(taken)))
    if "REXRAY_PREEMPT" in taken and settings.takeover is TakeoverPolicy.PROOF:
        _LOG.warning("REXRAY_PREEMPT takes volumes only from hosts that are proven dead")
    if doubt := doubt_of(settings):
        _LOG.warning("volumes are made on the disk of this host", reason=str(doubt[0]))


async def warn_of_unusable_backends(drivers: Mapping[str, Driver], timeout_s: float = _CHECK_S) -> None:
    """Check each backend once and warn of those that cannot be used: one cheap call to each."""
    await asyncio.gather(*(_check(name, driver, timeout_s) for name, driver in drivers.items()))


async def _check(name: str, driver: Driver, timeout_s: float) -> None:
    unmet = driver.unmet_requirements() if isinstance(driver, HasRequirements) else ()
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
    except Exception:  # a check must not end the process
        _LOG.exception("backend cannot be checked", backend=name)
