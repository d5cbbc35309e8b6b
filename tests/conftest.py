"""For all tests: skips fail a strict run, and nothing of volplug may block the event loop."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from volplug.log import configure_logging

# Of two hooks around a test, the later one is the outer one: nothing is prepared while the machine is locked.
pytest_plugins = [
    "tests.follow.measures",
    "tests.lab.openstack.shared",
    "tests.lab.parts",
    "tests.lab.parallel",
    "tests.lab.prepared",
    "tests.lab.slow",
    "tests.lab.strict",
]


@pytest.fixture(autouse=True, scope="session")
def logging_as_served() -> None:
    configure_logging("debug")


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    with blockbuster_ctx(scanned_modules=["volplug"]) as active:
        # Handing work to a thread takes the pool's lock, for microseconds.
        active.functions["threading.Lock.acquire"].deactivate()
        # Reading /proc/PID/stat never waits for anything.
        for read in ("io.TextIOWrapper.read", "io.BufferedReader.read"):
            active.functions[read].can_block_in("volplug/engine_peer.py", "identify")
        # A traceback in the log shows source lines.
        for call in ("os.stat", "io.TextIOWrapper.read", "io.BufferedReader.read"):
            active.functions[call].can_block_in("linecache.py", {"updatecache", "checkcache"})
        # The lab asks for loop devices with our code, between the calls of a test.
        for function in active.functions.values():
            function.can_block_in("tests/lab/loops.py", "attached")
        yield active
