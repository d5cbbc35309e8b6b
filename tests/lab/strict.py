"""A skipped test fails the run if VOLPLUG_TEST_STRICT=1, as in continuous integration.

Named in tests/conftest.py: ``pytest_plugins = ["tests.lab.strict"]``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

_OUTPUT = "skipped"
_skipped = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    if _strict():
        config.pluginmanager.register(_Recorder(config.stash[_skipped]))


class _Recorder:
    """Records what was skipped, whole modules included."""

    def __init__(self, skipped: list[str]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, but it did run.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Add the modules that a lane skipped as a whole, of which xdist sends no report."""
    skipped = node.config.stash[_skipped]
    output = getattr(node, "workeroutput", {})  # a lane that crashed has none
    skipped += [each for each in output.get(_OUTPUT, []) if each not in skipped]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OUTPUT] = session.config.stash[_skipped]
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
