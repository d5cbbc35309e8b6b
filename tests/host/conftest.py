import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.disks import Disks

DATA = Path(__file__).parents[1] / "data" / "host"


@pytest.fixture
def captures() -> Path:
    return DATA


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    made = Disks(tmp_path)
    try:
        yield made
    finally:
        made.close()
