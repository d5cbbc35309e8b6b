"""Two hosts in memory under random events.

`VOLPLUG_WALKS=5000` runs that many walks, with new seeds each time.
"""

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.walks.memory_walk import FilesystemWalk, MemoryWalk
from tests.walks.transitions import TransitionWalk
from tests.walks.walk import WALKS, walk_settings


@pytest.mark.timeout(60 + WALKS)
def test_two_hosts_keep_every_promise_under_random_events() -> None:
    run_state_machine_as_test(MemoryWalk, settings=walk_settings(200, 50, Phase.generate, Phase.shrink))


@pytest.mark.timeout(60 + WALKS)
def test_they_do_so_where_attaches_and_detaches_take_time_and_fail() -> None:
    run_state_machine_as_test(TransitionWalk, settings=walk_settings(100, 50, Phase.generate, Phase.shrink))


@pytest.mark.timeout(60 + WALKS)
def test_they_do_so_where_volumes_are_filesystems_without_devices() -> None:
    run_state_machine_as_test(FilesystemWalk, settings=walk_settings(100, 50, Phase.generate, Phase.shrink))
