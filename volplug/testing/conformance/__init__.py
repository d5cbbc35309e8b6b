"""The tests that every driver passes: the contract of `volplug.drivers.base`, and life after a crash.

A driver joins with its fixtures and a few lines:

    @pytest.mark.conformance
    class TestMine(DriverConformance, MyFixtures):
        pass

Nothing is skipped. What only some drivers can show stands in classes of its own; a driver declares the
capability by joining the class, before its fixtures:

* `SharedDriverConformance`: several hosts share the volumes.
* `ClusterConformance`: several clusters share the backend.
* `OutageConformance`: the backend can fail to answer, and the fixtures can make it so.
* `DuplicateConformance`: the backend lets two volumes carry one name.
* `DescriptionConformance`: others can write what the backend keeps of a volume, as with tags and files.

A driver whose `info` says GLOBAL has to join the first two, one that says `remote` the third. Whatever a test
makes is deleted afterwards through the driver's own calls, and the test fails if something stays.

The tests are coroutines: pytest-asyncio runs them with `asyncio_mode = "auto"`.
"""

# ruff: noqa: E402  # pytest has to be told before the modules are imported, or asserts show no values

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from volplug.testing.conformance.attachment import AttachmentCases
from volplug.testing.conformance.clusters import ClusterConformance
from volplug.testing.conformance.creation import CreationCases
from volplug.testing.conformance.deletion import DeletionCases
from volplug.testing.conformance.descriptions import DescriptionConformance
from volplug.testing.conformance.duplicates import DuplicateConformance
from volplug.testing.conformance.facts import FactCases
from volplug.testing.conformance.interruption import InterruptionCases
from volplug.testing.conformance.outages import OutageConformance
from volplug.testing.conformance.shared import SharedDriverConformance

__all__ = [
    "ClusterConformance",
    "DescriptionConformance",
    "DriverConformance",
    "DuplicateConformance",
    "OutageConformance",
    "SharedDriverConformance",
]


class DriverConformance(CreationCases, AttachmentCases, DeletionCases, InterruptionCases, FactCases):
    """The contract of one node."""
