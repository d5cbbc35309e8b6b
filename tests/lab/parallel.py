"""Runs tests in parallel lanes; named in tests/conftest.py: ``pytest_plugins``.

pytest-xdist starts a worker for each lane; as root, in namespaces of its own (lane.sh). The unit of
scheduling is a test module or class, so that its fixtures are made once. Marks change that:

    @pytest.mark.lane("NAME")   all tests with this name run in one lane: they share something expensive
    @pytest.mark.spread         each test is a unit: nothing expensive is shared
    @pytest.mark.alone          no other test runs on this machine meanwhile
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.lab import cgroups, lane, loops
from tests.lab.kept import cache
from tests.lab.parts import position

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

_UNITS = "units"
_SCRIPT = Path(__file__).with_name("lane.sh")
# Most tests wait most of the time: for engines, for disks, for processes that start and end.
_LANES_PER_PROCESSOR = 2
_run = pytest.StashKey[Path]()
_own = pytest.StashKey[contextlib.ExitStack]()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of lanes of `-n auto`; none in a program that a test runs."""
    return 0 if lane.is_lane() else _LANES_PER_PROCESSOR * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each worker a lane, and each lane's tests a directory in it."""
    if hasattr(config, "workerinput"):
        if lane.is_lane():
            config.option.basetemp = lane.directory() / "tmp"
        return
    if not config.option.tx:
        config.stash[_own] = own = contextlib.ExitStack()
        config.option.basetemp = (
            config.option.basetemp or own.enter_context(lane.without_namespaces()) / "tmp"
        )
        return
    config.option.loadscopereorder = False  # see pytest_collection_modifyitems
    config.stash[_run] = run = Path(tempfile.mkdtemp(prefix="volplug-tests-", dir=lane.directory()))
    run.chmod(0o711)  # access for other users must not be closed by a directory of the tests already
    if os.geteuid() == 0:
        start = f"popen//python=sh {_SCRIPT} {run}"
        config.option.tx = [f"{start}/{number} {sys.executable}" for number in range(len(config.option.tx))]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove leftovers of lanes: directories, control groups, and what a killed one had attached."""
    config.stash.get(_own, contextlib.ExitStack()).close()
    run = config.stash.get(_run, None)
    if run is not None:
        loops.detach_below(run)
        cgroups.remove_of_lanes(run)
        shutil.rmtree(run)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest units first and tests marked `alone` last."""
    items.sort(key=lambda item: (item.get_closest_marker("alone") is not None, position(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Pass a worker the path at which the scheduler expects the units."""
    node.workerinput[_UNITS] = str(node.config.stash[_run] / f"{node.gateway.id}.json")


@pytest.hookimpl(tryfirst=True)  # before xdist reports the end of the collection to the scheduler
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the unit of each test to a file, because xdist does not pass it to the scheduler."""
    path = getattr(session.config, "workerinput", {}).get(_UNITS)
    if path is not None:
        Path(path).write_text(json.dumps({item.nodeid: _unit(item) for item in session.items}))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Schedule one unit after the other on each lane."""
    return _UnitScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test marked `alone` wait for all others, and those wait for it."""
    with _turn(is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


class _UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no type information
    """xdist's scheduling of modules and classes, for units."""

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._units = json.loads(Path(node.workerinput[_UNITS]).read_text())
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        return str(self._units[nodeid])


def _unit(item: pytest.Item) -> str:
    named = item.get_closest_marker("lane")
    if named is not None:
        return str(named.args[0])
    return (
        item.nodeid
        if item.get_closest_marker("spread")
        else item.nodeid.partition("[")[0].rpartition("::")[0]
    )


@contextlib.contextmanager
def _turn(*, is_alone: bool) -> Iterator[None]:
    """Lock the machine, shared or exclusively.

    Two locks, so that a waiting exclusive test is not starved by shared ones: every test passes the first
    lock, and an exclusive one keeps it.
    """
    with _opened("turn.lock") as turn, _opened("machine.lock") as machine:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        if not is_alone:
            fcntl.flock(turn, fcntl.LOCK_UN)
        yield


@contextlib.contextmanager
def _opened(name: str) -> Iterator[int]:
    descriptor = os.open(cache() / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # which releases the lock
