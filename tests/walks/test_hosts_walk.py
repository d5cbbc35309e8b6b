"""Two hosts in memory, whatever happens to them.

`VOLPLUG_WALKS=5000` takes so many walks, each time others.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.walks.memory_walk import MemoryWalk

_WALKS = int(os.environ.get("VOLPLUG_WALKS", "0"))


@pytest.mark.timeout(60 + _WALKS)
def test_two_hosts_keep_every_promise_whatever_happens_to_them() -> None:
    run_state_machine_as_test(
        MemoryWalk,
        settings=settings(
            max_examples=_WALKS or 250,
            stateful_step_count=50,
            derandomize=not _WALKS,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
