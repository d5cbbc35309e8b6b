"""For modules whose scenarios hold however volplug is installed."""

import pytest

from tests.lab.managed import ManagedVolplug
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import PLUGIN

_MANAGED = pytest.param(ManagedVolplug, id="managed", marks=PLUGIN)

EACH_INSTALLATION = pytest.mark.parametrize(
    "installation",
    [pytest.param(VolplugProcess, id="process"), _MANAGED],
    indirect=True,
    scope="module",
)
MANAGED = pytest.mark.parametrize("installation", [_MANAGED], indirect=True, scope="module")
