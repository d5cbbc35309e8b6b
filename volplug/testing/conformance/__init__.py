"""The tests that every driver passes: the contract of `volplug.drivers.base`, also after a crash.

A driver's test class is its fixtures and a few lines:

    @pytest.mark.conformance
    class TestMine(DriverConformance, MyFixtures):
        pass

Nothing is skipped. Tests for some drivers only are in classes of their own; a driver declares the capability
by inheriting from the class, before its fixtures:

* `SharedDriverConformance`: several hosts share the volumes.
* `ClusterConformance`: several clusters share the backend.
* `OutageConformance`: the backend can be unavailable, and the fixtures can cause that.
* `DuplicateConformance`: the backend allows two volumes of one name.
* `CopyConformance`: volumes can be copied to another host.
* `DescriptionConformance`: other parties can write the description of a volume, as with tags and files.

A driver with scope GLOBAL has to inherit from the first two, a `remote` one from the third. A test's volumes
are deleted afterwards through the driver's own calls, and the test fails if something remains.

The tests are coroutines: pytest-asyncio runs them with `asyncio_mode = "auto"`.
"""

# ruff: noqa: E402  # asserts are rewritten only in modules that are registered before their import

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from volplug.testing.conformance.attachment import AttachmentCases
from volplug.testing.conformance.clusters import ClusterConformance
from volplug.testing.conformance.copies import CopyConformance
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
    "CopyConformance",
    "DescriptionConformance",
    "DriverConformance",
    "DuplicateConformance",
    "OutageConformance",
    "SharedDriverConformance",
]


class DriverConformance(CreationCases, AttachmentCases, DeletionCases, InterruptionCases, FactCases):
    """The contract of one node."""
