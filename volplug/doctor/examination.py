"""Examination: what the checks of doctor work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from volplug.api.client import ControlClient
from volplug.config import Settings
from volplug.drivers.base import Driver


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known at the start of a run of doctor.

    Attributes:
        settings: Those of the volplug of this host: of the managed plugin if that is what runs here.
        drivers: The backends that could be built, by name.
        daemon: Client of the volplug that runs here; None if it does not run or does not answer.
        is_managed: Whether volplug is installed here as a managed plugin.
    """

    settings: Settings
    drivers: Mapping[str, Driver]
    daemon: ControlClient | None
    is_managed: bool
