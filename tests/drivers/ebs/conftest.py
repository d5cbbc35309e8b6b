import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.ebs.clouds import QUICK, Site, spec_of
from volplug.drivers.ebs import EbsDriver
from volplug.models import Volume
from volplug.testing.ec2 import Ec2Cloud, LoopHypervisor, MemoryHypervisor

_NUMBERS = count()


@pytest.fixture(autouse=True)
def _no_account_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neither variables nor files of whoever runs the tests be seen by the SDK."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "EBS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))


@pytest.fixture(scope="module")
def loop_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2Cloud]:
    """A cloud whose volumes are loop devices, one for all tests of a module."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    with Ec2Cloud(LoopHypervisor(str(tmp_path_factory.mktemp("ec2")))) as cloud:
        yield cloud


@pytest.fixture
def memory_cloud() -> Iterator[Ec2Cloud]:
    """A cloud whose volumes are mere facts."""
    with Ec2Cloud(MemoryHypervisor()) as cloud:
        yield cloud


@pytest.fixture
def sites(memory_cloud: Ec2Cloud, tmp_path: Path) -> list[Site]:
    """Two instances of that cloud, in one zone."""
    roots = {"sys_root": str(tmp_path / "sys"), "dev_root": str(tmp_path / "dev")}
    ids = ("i-0000000000000000a", "i-0000000000000000b")
    return [Site(memory_cloud, memory_cloud.add_instance(each), max_retries=1, **roots) for each in ids]


@pytest.fixture
def on_a(sites: list[Site], tmp_path: Path) -> EbsDriver:
    return sites[0].driver(tmp_path / "a")


@pytest.fixture
def on_b(sites: list[Site], tmp_path: Path) -> EbsDriver:
    return sites[1].driver(tmp_path / "b")


@pytest.fixture
def cloud(loop_cloud: Ec2Cloud) -> Iterator[Ec2Cloud]:
    """That cloud, without faults and instances afterwards."""
    yield loop_cloud
    loop_cloud.end_faults()
    for site_id in [each.instance_id for each in loop_cloud.instances()]:
        loop_cloud.set_instance_state(site_id, "terminated")  # EC2 takes its volumes from it
        loop_cloud.settle()
        loop_cloud.remove_instance(site_id)


@pytest.fixture
def site(cloud: Ec2Cloud) -> Site:
    return Site(cloud, cloud.add_instance(f"i-{next(_NUMBERS):017x}", attachment_limit=3))


@pytest.fixture
def other_site(cloud: Ec2Cloud) -> Site:
    return Site(cloud, cloud.add_instance(f"i-{next(_NUMBERS):017x}"))


@pytest.fixture
def cluster() -> str:
    return f"cluster-{next(_NUMBERS)}"


@pytest.fixture
def driver(site: Site, cluster: str, tmp_path: Path) -> EbsDriver:
    return site.driver(tmp_path, cluster, QUICK)


@pytest.fixture
def other(other_site: Site, cluster: str, tmp_path: Path) -> EbsDriver:
    return other_site.driver(tmp_path / "other", cluster, QUICK)


@pytest.fixture
async def volume(cloud: Ec2Cloud, driver: EbsDriver) -> Volume:
    volume = await driver.create(spec_of())
    cloud.calls.reset()
    return volume
