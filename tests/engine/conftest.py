"""Every engine test gets a Docker Engine of its own, and leaves the machine as it found it."""

import sys
from collections.abc import Iterator

import pytest

from tests.lab.engine import Engine
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import tail


@pytest.fixture
def clean_machine() -> Iterator[None]:
    """Fails the test if it leaves anything behind, also when it failed."""
    before = snapshot()
    yield
    assert settled_difference(before) == []


@pytest.fixture
def engine(clean_machine: None) -> Iterator[Engine]:
    """A private engine with the image ``busybox:local``."""
    with Engine() as engine:
        engine.import_busybox()
        yield engine
        _show("dockerd warned last", tail(engine.log, without="level=info"))


@pytest.fixture
def volplug(engine: Engine) -> Iterator[VolplugProcess]:
    """``volplug serve``, without any configuration, beside that engine."""
    with VolplugProcess(engine) as process:
        yield process
        _show("volplug said last", tail(process.log))


def _show(what: str, text: str) -> None:
    # pytest keeps what is written here for the tests that failed.
    sys.stderr.write(f"--- {what}:\n{text}\n")
