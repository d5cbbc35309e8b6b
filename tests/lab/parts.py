"""The parts of the test suite and their budgets; at the end of a run, how long each part took.

Named in tests/conftest.py: ``pytest_plugins``. A new part, or one that grows, stays within its budget.
"""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Part:
    """One part of the suite.

    Attributes:
        name: Its name.
        budget_min: The limit for the sum of its tests' durations, in minutes of a lane.
        places: The paths of its tests.
    """

    name: str
    budget_min: float
    places: tuple[str, ...]


# In the order in which they begin: long units first, so that short ones fill the gaps at the end.
PARTS = (
    Part("cinder", 7.5, ("tests/drivers/cinder/", "tests/cinder/", "tests/openstack/")),
    Part("engine", 7.5, ("tests/engine/", "tests/test_toy_driver.py")),
    Part("lab", 2.0, ("tests/test_lab",)),
    Part("follow", 5.0, ("tests/follow/",)),
    Part("vm", 1.0, ("tests/vm/",)),
    Part("faults", 5.0, ("tests/faults/", "tests/served/", "tests/walks/")),
    Part("zfs", 2.5, ("tests/drivers/zfs/", "tests/zfs/")),
    Part("ebs", 3.0, ("tests/drivers/ebs/", "tests/ec2sim/", "tests/aws/")),
    Part("cluster", 1.0, ("tests/cluster/",)),
    Part("api", 1.5, ("tests/api/", "tests/doctor/")),
    Part("cli", 1.0, ("tests/cli/",)),
    Part("unit and contract", 4.5, ("",)),
)
_MOST_SLOWEST = 10
_durations = pytest.StashKey[dict[str, float]]()


def position(node: str) -> int:
    """The place of a test's part in the order in which parts begin."""
    return next(
        number for number, part in enumerate(PARTS) if any(node.startswith(each) for each in part.places)
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start adding up durations."""
    durations: dict[str, float] = {}
    config.stash[_durations] = durations
    config.pluginmanager.register(_Recorder(durations))


class _Recorder:
    def __init__(self, durations: dict[str, float]) -> None:
        self._durations = durations

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._durations[report.nodeid] = self._durations.get(report.nodeid, 0) + report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the time and budget of each part, and the slowest tests."""
    durations = config.stash[_durations]
    if not durations:
        return
    minutes = dict.fromkeys(PARTS, 0.0)
    for node, duration_s in durations.items():
        minutes[PARTS[position(node)]] += duration_s / 60
    terminalreporter.section("minutes of a lane")
    for part, spent in minutes.items():
        if spent:
            terminalreporter.line(f"{spent:6.1f} of {part.budget_min:g}  {part.name}")
    terminalreporter.line(f"{sum(minutes.values()):6.1f}       altogether; the slowest tests, in seconds:")
    slowest = sorted(durations.items(), key=lambda item: -item[1])[:_MOST_SLOWEST]
    for node, duration_s in slowest:
        terminalreporter.line(f"{duration_s:6.1f}       {node}")
