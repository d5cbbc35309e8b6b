"""For modules whose scenarios hold however volplug is installed."""

import pytest

from tests.lab.managed import ManagedVolplug
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import PLUGIN

EACH_INSTALLATION = pytest.mark.parametrize(
    "installation",
    [pytest.param(VolplugProcess, id="process"), pytest.param(ManagedVolplug, id="managed", marks=PLUGIN)],
    indirect=True,
    scope="module",
)
