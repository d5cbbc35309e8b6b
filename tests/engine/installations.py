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

# Both forms and both versions of the engine, but not each form on each version: for what depends on the one
# or on the other, and takes minutes.
IN_PAIRS = pytest.mark.in_pairs
