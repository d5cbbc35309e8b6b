"""Two hosts in memory, whatever happens to them.

`VOLPLUG_WALKS=5000` takes so many walks, each time others.
"""

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.walks.memory_walk import MemoryWalk
from tests.walks.walk import WALKS, walk_settings


@pytest.mark.timeout(60 + WALKS)
def test_two_hosts_keep_every_promise_whatever_happens_to_them() -> None:
    run_state_machine_as_test(MemoryWalk, settings=walk_settings(250, 50, Phase.generate, Phase.shrink))
