"""The conformance suite on AWS itself, on this instance.

It makes volumes of 4 GiB in clusters of its own and deletes them. Credentials, region and the rest are read
as volplug reads them. VOLPLUG_TEST_AWS_SETTINGS holds further settings of the backend, as JSON.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from volplug.drivers.base import BackendConfig, Driver
from volplug.drivers.cloud.tags import NAME
from volplug.drivers.ebs import EbsDriver
from volplug.drivers.ebs.ec2 import Ec2
from volplug.drivers.ebs.instance import HostIdentity
from volplug.drivers.ebs.settings import load_settings
from volplug.drivers.ebs.tags import as_list
from volplug.errors import VolplugError
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.conformance import ClusterConformance, DriverConformance, DuplicateConformance
from volplug.testing.driver_fixtures import DriverFixtures, Duplicate, Interrupt, MakeSpec, NewDriver

pytestmark = [pytest.mark.timeout(1800), pytest.mark.ebs]

_SETTINGS = json.loads(os.environ.get("VOLPLUG_TEST_AWS_SETTINGS", "{}"))
_SIZE = 4 * GIB


_NO_KEY = "alias/volplug-test-no-such-key"


class _Instance:
    """This instance and its connections to EC2, without state of volumes."""

    def __init__(self) -> None:
        self._settings = load_settings(BackendConfig("ebs", "", "", Path(), _SETTINGS))
        self.host = HostIdentity(self._settings)
        self.ec2 = Ec2(self._settings, self.host)

    def driver(self, cluster: str, state_dir: Path) -> Driver:
        config = BackendConfig("ebs", "", cluster, state_dir, _SETTINGS)
        return EbsDriver(config, self._settings, self.host, self.ec2, self.ec2)


class AwsFixtures(DriverFixtures):
    """This instance; each test has a cluster of its own."""

    @pytest.fixture
    def cluster(self) -> str:
        return f"volplug-test-{uuid4()}"

    @pytest.fixture
    async def instance(self) -> _Instance:
        instance = _Instance()
        await instance.host.get()
        return instance

    @pytest.fixture
    def new_driver(self, instance: _Instance, cluster: str, tmp_path: Path) -> NewDriver:
        return lambda: instance.driver(cluster, tmp_path)

    @pytest.fixture
    def other_cluster(self, instance: _Instance, cluster: str, tmp_path: Path) -> Driver:
        return instance.driver(f"{cluster}-other", tmp_path / "other")

    @pytest.fixture
    def many(self) -> int:
        return 5  # each costs money

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return VolumeSpec(name or f"v{next(numbers)}", size_bytes or _SIZE)

        return make

    @pytest.fixture
    def interrupt_create(self, new_driver: NewDriver) -> Interrupt:
        """The process ends while EC2 is creating the volume, which takes a second or more."""

        async def interrupt(spec: VolumeSpec) -> None:
            await new_driver().create(spec)

        return interrupt

    @pytest.fixture
    def duplicate(self, instance: _Instance, driver: Driver, make_spec: MakeSpec) -> Duplicate:
        """Another volume gets the same name."""

        async def duplicate(volume: Volume) -> Volume:
            other = await driver.create(make_spec())
            named = as_list({NAME: volume.name})
            await instance.ec2.call("CreateTags", Resources=[other.volume_id], Tags=named)
            return next(each for each in await driver.list() if each.volume_id == other.volume_id)

        return duplicate


class TestOnThisInstance(DriverConformance, ClusterConformance, DuplicateConformance, AwsFixtures):
    """Every capability that needs one instance only."""

    # Not those that need two instances, or an outage.
    test_capabilities_are_declared = None  # type: ignore[assignment]  # so pytest leaves it out

    async def test_a_key_that_does_not_exist_is_named(self, driver: Driver, make_spec: MakeSpec) -> None:
        spec = replace(make_spec(), driver_options=(("kms-key-id", _NO_KEY),))
        with pytest.raises(VolplugError, match=_NO_KEY):
            await driver.create(spec)
        left = await driver.get(spec.name)
        assert left is None or left.state is VolumeState.ERROR
