"""How long moves took: told at the end of the report, never judged.

A plugin of pytest: what a test has measured goes with its report, from whichever lane the test runs in.
"""

from typing import cast

import pytest

_PROPERTY = "downtime"
_seconds = pytest.StashKey[dict[str, float]]()


class Measures:
    """What a test has measured."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def downtime(self, of: str, seconds: float) -> None:
        """Note how long a service was without its volume."""
        self._node.user_properties.append((_PROPERTY, (of, seconds)))


@pytest.fixture
def measures(request: pytest.FixtureRequest) -> Measures:
    """Where a test notes how long a move took."""
    return Measures(request.node)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to gather what tests measure."""
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
