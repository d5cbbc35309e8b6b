"""Durations of moves: shown at the end of the report, never judged.

A plugin of pytest: the measures of a test are part of its report, from any lane.
"""

from typing import cast

import pytest

_PROPERTY = "downtime"
_seconds = pytest.StashKey[dict[str, float]]()


class Measures:
    """The measures of a test on a backend."""

    def __init__(self, node: pytest.Item, backend: str) -> None:
        self._node = node
        self._backend = backend

    def downtime(self, of: str, seconds: float) -> None:
        """Record how long a service was without its volume."""
        self._node.user_properties.append((_PROPERTY, (f"{self._backend}, {of}", seconds)))


@pytest.fixture
def measures(request: pytest.FixtureRequest, backend: str) -> Measures:
    """The measures that a test records."""
    return Measures(request.node, backend)


def pytest_configure(config: pytest.Config) -> None:
    """Start collecting the measures of tests."""
    seconds: dict[str, float] = {}
    config.stash[_seconds] = seconds
    config.pluginmanager.register(_Gatherer(seconds))


class _Gatherer:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == _PROPERTY:
                    of, seconds = cast(tuple[str, float], value)
                    self._seconds[of] = seconds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show it."""
    seconds = config.stash[_seconds]
    if seconds:
        terminalreporter.section("no record was acknowledged during a move for")
        for of, downtime_s in seconds.items():
            terminalreporter.line(f"{downtime_s:6.2f} s: {of}")
