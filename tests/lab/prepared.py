"""What takes long on a fresh machine is made before the first test, where no test's time limit counts it.

    @pytest.mark.prepare(by=make_it)

calls ``make_it()`` if the test is going to run; the test, or its fixture, calls it again to use what was
made. Named in tests/conftest.py: ``pytest_plugins``.
"""

import contextlib
import subprocess

import pytest

from tests.lab.requirements import missing_for_engine


def pytest_runtestloop(session: pytest.Session) -> None:
    if session.config.option.collectonly or missing_for_engine():
        return
    wanted = {each.kwargs["by"]: None for item in session.items for each in item.iter_markers("prepare")}
    if wanted:
        session.config.get_terminal_writer().line("making what tests need; on a fresh machine minutes")
    for make in wanted:
        with contextlib.suppress(RuntimeError, OSError, subprocess.SubprocessError):  # the tests say it
            make()
