"""Leaves out tests that take minutes and add little to the others, unless VOLPLUG_TEST_SLOW=1.

Named in tests/conftest.py: ``pytest_plugins = ["tests.lab.slow"]``.
"""

import os

import pytest


def is_asked_for() -> bool:
    """Whether slow tests are to run, too."""
    return os.environ.get("VOLPLUG_TEST_SLOW") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item for item in items if item.get_closest_marker("slow")}
    if left_out and not is_asked_for():
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
