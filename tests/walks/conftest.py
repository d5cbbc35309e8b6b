"""Logs of walks are too long to be useful, and take longer than the walks."""

from collections.abc import Iterator

import pytest

from volplug.log import configure_logging


@pytest.fixture(autouse=True, scope="module")
def errors_only_in_the_log() -> Iterator[None]:
    configure_logging("critical")
    yield
    configure_logging("debug")
