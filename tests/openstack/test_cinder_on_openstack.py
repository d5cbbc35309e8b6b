"""The conformance suite on a real cloud, on this server.

It makes volumes of 1 GiB in clusters of its own and deletes them. Credentials, region and the rest are read
as volplug reads them. VOLPLUG_TEST_OPENSTACK_SETTINGS holds further settings of the backend, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from volplug.drivers.base import BackendConfig, Driver
from volplug.drivers.cinder import CinderDriver
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStack
from volplug.drivers.cinder.options import TOKEN, metadata_of
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import load_settings
from volplug.drivers.cloud.tags import SUBPATH, filesystem_tags
from volplug.errors import VolplugError
from volplug.models import Volume, VolumeSpec
from volplug.sizes import GIB
from volplug.testing.conformance import (
    ClusterConformance,
    DescriptionConformance,
    DriverConformance,
    DuplicateConformance,
)
from volplug.testing.driver_fixtures import (
    Describe,
    DriverFixtures,
    Duplicate,
    Interrupt,
    MakeSpec,
    NewDriver,
)

pytestmark = [pytest.mark.timeout(1800), pytest.mark.cinder]

_SETTINGS = json.loads(os.environ.get("VOLPLUG_TEST_OPENSTACK_SETTINGS", "{}"))

_NO_TYPE = "volplug-test-no-such-type"


class _Server:
    """This server and its connections to the cloud, without state of volumes."""

    def __init__(self) -> None:
        self._settings = load_settings(BackendConfig("cinder", "", "", Path(), _SETTINGS))
        self.openstack = OpenStack(self._settings)
        self.host = ThisServer(self._settings, self.openstack)

    def driver(self, cluster: str, state_dir: Path) -> Driver:
        config = BackendConfig("cinder", "", cluster, state_dir, _SETTINGS)
        return CinderDriver(config, self._settings, self.host, self.openstack, self.openstack)

    async def change(self, method: str, path: str, **body: object) -> Mapping[str, Any]:
        """Make a call of Cinder that is not the driver's."""
        return await self.openstack.call(Call(CINDER, method, path, body=body, is_repeatable=False))


class OpenStackFixtures(DriverFixtures):
    """This server; each test has a cluster of its own."""

    @pytest.fixture
    def cluster(self) -> str:
        return f"volplug-test-{uuid4()}"

    @pytest.fixture
    async def server(self) -> _Server:
        server = _Server()
        await server.host.get()
        return server

    @pytest.fixture
    def new_driver(self, server: _Server, cluster: str, tmp_path: Path) -> NewDriver:
        return lambda: server.driver(cluster, tmp_path)

    @pytest.fixture
    def other_cluster(self, server: _Server, cluster: str, tmp_path: Path) -> Driver:
        return server.driver(f"{cluster}-other", tmp_path / "other")

    @pytest.fixture
    def many(self) -> int:
        return 5  # the default quota is ten volumes

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return VolumeSpec(name or f"v{next(numbers)}", size_bytes or GIB)

        return make

    @pytest.fixture
    def interrupt_create(self, new_driver: NewDriver) -> Interrupt:
        """The process ends before the volume has been attached, and loses its memory."""

        async def interrupt(spec: VolumeSpec) -> None:
            await new_driver().create(spec)

        return interrupt

    @pytest.fixture
    def describe(self, server: _Server, cluster: str) -> Describe:
        """Write the metadata, as every principal may who can change volumes of the project."""

        async def describe(volume: Volume, otherwise: Volume) -> None:
            metadata = {
                **metadata_of(otherwise.spec, cluster, {}, "token"),
                **filesystem_tags(otherwise.filesystem),
                SUBPATH: otherwise.subpath,
            }
            await server.change("POST", f"/volumes/{volume.volume_id}/metadata", metadata=metadata)

        return describe

    @pytest.fixture
    def duplicate(self, server: _Server, driver: Driver, make_spec: MakeSpec, cluster: str) -> Duplicate:
        """Another volume gets the same metadata, but for the token of its creation."""

        async def duplicate(volume: Volume) -> Volume:
            other = await driver.create(make_spec())
            metadata = metadata_of(volume.spec, cluster, {}, "")
            del metadata[TOKEN]
            await server.change("PUT", f"/volumes/{other.volume_id}/metadata", metadata=metadata)
            return next(each for each in await driver.list() if each.volume_id == other.volume_id)

        return duplicate


class TestOnThisServer(
    DriverConformance,
    ClusterConformance,
    DuplicateConformance,
    DescriptionConformance,
    OpenStackFixtures,
):
    """Every capability that needs one server only."""

    # Not those that need two servers, or an outage.
    test_capabilities_are_declared = None  # type: ignore[assignment]  # so pytest leaves it out

    async def test_a_type_that_does_not_exist_is_named(self, driver: Driver, make_spec: MakeSpec) -> None:
        spec = replace(make_spec(), driver_options=(("type", _NO_TYPE),))
        with pytest.raises(VolplugError, match=_NO_TYPE):
            await driver.create(spec)
        assert await driver.get(spec.name) is None
