"""Walks do so much that what they log is of no use to anybody, and takes longer than they do."""

from collections.abc import Iterator

import pytest

from volplug.log import configure_logging


@pytest.fixture(autouse=True, scope="module")
def hardly_any_log() -> Iterator[None]:
    configure_logging("critical")
    yield
    configure_logging("debug")
