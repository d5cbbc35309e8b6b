"""Slow preparations are made before the first test that needs them, outside of its time limit.

    @pytest.mark.prepare(by=make_it)

calls ``make_it()`` before the test; the test, or its fixture, calls it again to use the result. Other
lanes continue with other tests meanwhile. Named in tests/conftest.py: ``pytest_plugins``.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.lab.requirements import missing_for_engine

_tried: set[Callable[[], object]] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Make what the test needs, once; if that fails, the test reports the error."""
    for mark in item.iter_markers("prepare"):
        make = mark.kwargs["by"]
        if make not in _tried and not missing_for_engine():
            _tried.add(make)
            with contextlib.suppress(Exception):
                make()
    return (yield)
