"""Logs of walks are too long to be useful, and take longer than the walks."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog
from structlog.typing import EventDict, WrappedLogger


@pytest.fixture(autouse=True, scope="module")
def nothing_in_the_log() -> Iterator[None]:
    processors = structlog.get_config()["processors"]  # loggers that are cached have this very list
    processors.insert(0, _drop)
    yield
    processors.remove(_drop)


def _drop(_logger: WrappedLogger, _method: str, _event: EventDict) -> NoReturn:
    raise structlog.DropEvent
