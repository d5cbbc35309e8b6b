"""A skipped test is a failed run where VOLPLUG_TEST_STRICT=1 says so, as in continuous integration.

Named in tests/conftest.py: ``pytest_plugins = ["tests.lab.strict"]``.
"""

import os

import pytest

_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    if _strict():
        config.pluginmanager.register(_Recorder(config.stash[_skipped]))


class _Recorder:
    """Remembers what was skipped, whole modules included."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, but it did run.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[_skipped] and session.exitstatus in (pytest.ExitCode.OK, 0):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    skipped = config.stash[_skipped]
    if skipped:
        terminalreporter.section("skipped, which VOLPLUG_TEST_STRICT=1 forbids")
        for node in skipped:
            terminalreporter.line(node)


def _strict() -> bool:
    return os.environ.get("VOLPLUG_TEST_STRICT", "") not in ("", "0")
