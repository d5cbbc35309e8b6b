import os
from collections.abc import Iterator

import pytest

from volplug.testing.ec2 import Ec2Cloud, LoopHypervisor


@pytest.fixture(scope="module")
def loop_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2Cloud]:
    """A cloud whose volumes are loop devices, one for all tests of a module."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    with Ec2Cloud(LoopHypervisor(str(tmp_path_factory.mktemp("ec2")))) as cloud:
        yield cloud
