import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.ebs import sdk_data
from tests.drivers.ebs.clouds import IMPATIENT, Site, spec_of
from tests.ec2sim import Ec2Cloud, LoopHypervisor, MemoryHypervisor
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.models import Volume

_NUMBERS = count()


@pytest.fixture(scope="session", autouse=True)
def _sdk_data_is_read_once() -> Iterator[None]:
    with sdk_data.read_once():
        yield


@pytest.fixture(autouse=True)
def _no_account_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the variables and files of the user who runs the tests from the SDK."""
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


@pytest.fixture(scope="module")
def hosts(loop_cloud: Ec2Cloud) -> list[Site]:
    """Two instances of that cloud, one pair for a module: new connections to EC2 cost a lot."""
    first = loop_cloud.add_instance("i-0000000000000000a", attachment_limit=3)
    second = loop_cloud.add_instance("i-0000000000000000b")
    return [Site(loop_cloud, each) for each in (first, second)]


@pytest.fixture(scope="module")
def memory_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    """Two instances of a cloud whose volumes are mere facts, in one zone; one pair for a module."""
    place = tmp_path_factory.mktemp("host")
    roots = {"sys_root": str(place / "sys"), "dev_root": str(place / "dev")}
    with Ec2Cloud(MemoryHypervisor()) as cloud:
        instances = [cloud.add_instance(f"i-0000000000000000{each}") for each in "ab"]
        yield [Site(cloud, each, max_retries=1, **roots) for each in instances]


@pytest.fixture
def memory_cloud(memory_hosts: list[Site]) -> Iterator[Ec2Cloud]:
    """That cloud, as new."""
    cloud = memory_hosts[0].cloud
    yield cloud
    cloud.start_over()


@pytest.fixture
def sites(memory_cloud: Ec2Cloud, memory_hosts: list[Site]) -> list[Site]:
    return memory_hosts


@pytest.fixture
def on_a(sites: list[Site], tmp_path: Path) -> EbsDriver:
    return sites[0].driver(tmp_path / "a")


@pytest.fixture
def on_b(sites: list[Site], tmp_path: Path) -> EbsDriver:
    return sites[1].driver(tmp_path / "b")


@pytest.fixture
def cloud(loop_cloud: Ec2Cloud) -> Iterator[Ec2Cloud]:
    """The cloud of loop devices, as new."""
    yield loop_cloud
    loop_cloud.start_over()


@pytest.fixture
def site(cloud: Ec2Cloud, hosts: list[Site]) -> Site:
    return hosts[0]


@pytest.fixture
def other_site(cloud: Ec2Cloud, hosts: list[Site]) -> Site:
    return hosts[1]


@pytest.fixture
def cluster() -> str:
    return f"cluster-{next(_NUMBERS)}"


@pytest.fixture
def limits() -> Ec2Timeouts:
    """How long the drivers wait; a test in which nothing comes is parametrized with a shorter one."""
    return IMPATIENT


@pytest.fixture
def driver(site: Site, cluster: str, tmp_path: Path, limits: Ec2Timeouts) -> EbsDriver:
    return site.driver(tmp_path, cluster, limits)


@pytest.fixture
def other(other_site: Site, cluster: str, tmp_path: Path, limits: Ec2Timeouts) -> EbsDriver:
    return other_site.driver(tmp_path / "other", cluster, limits)


@pytest.fixture
async def volume(cloud: Ec2Cloud, driver: EbsDriver) -> Volume:
    volume = await driver.create(spec_of())
    cloud.calls.reset()
    return volume
