import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ec2sim import Ec2Cloud, LoopHypervisor, MemoryHypervisor
from tests.ec2sim.clients import Caller, caller
from tests.lab import loops

INSTANCE, OTHER = "i-0a1b2c3d4e5f60718", "i-0f1e2d3c4b5a69788"


@pytest.fixture
def hypervisor() -> MemoryHypervisor:
    return MemoryHypervisor()


@pytest.fixture
def cloud(hypervisor: MemoryHypervisor) -> Iterator[Ec2Cloud]:
    """A cloud of two instances in one zone."""
    with Ec2Cloud(hypervisor) as cloud:
        cloud.add_instance(INSTANCE)
        cloud.add_instance(OTHER)
        yield cloud


@pytest.fixture
def ec2(cloud: Ec2Cloud) -> Iterator[Caller]:
    with caller(cloud.endpoint) as made:
        yield made


@pytest.fixture
def loop_cloud(tmp_path: Path) -> Iterator[Ec2Cloud]:
    """A cloud whose volumes are loop devices; none may be left over."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    try:
        with Ec2Cloud(LoopHypervisor(str(tmp_path / "cloud"))) as cloud:
            cloud.add_instance(INSTANCE)
            cloud.add_instance(OTHER, kind="xen")
            yield cloud
        left = loops.attached_below(tmp_path)
    finally:
        loops.detach_below(tmp_path)
    assert left == []
