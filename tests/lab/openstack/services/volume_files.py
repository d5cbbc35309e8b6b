"""A driver for cinder-volume that keeps each volume and each snapshot in a sparse file.

Its connection is {"driver_volume_type": "local", "data": {"device_path": FILE}}.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cinder import exception, interface
from cinder.volume import configuration, driver
from oslo_config import cfg
from oslo_utils import units

from tests.lab.openstack.services.striking import strike

if TYPE_CHECKING:
    from cinder.objects.snapshot import Snapshot
    from cinder.objects.volume import Volume

_OPTIONS = [cfg.StrOpt("volumes"), cfg.StrOpt("faults"), cfg.FloatOpt("capacity_gb")]
cfg.CONF.register_opts(_OPTIONS, group=configuration.SHARED_CONF_GROUP)


class OrderedFaultError(exception.VolumeBackendAPIException):
    """A failure that a test has ordered."""

    def __init__(self, text: str) -> None:
        super().__init__(data=text)


@interface.volumedriver
class VolumeFileDriver(driver.VolumeDriver):
    """See `cinder.interface.volume_driver.VolumeDriverCore` for the calls."""

    VERSION = "1.0.0"
    CI_WIKI_NAME = "none"

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(_OPTIONS)

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return _OPTIONS

    def do_setup(self, context: object) -> None:
        pass

    def check_for_setup_error(self) -> None:
        pass

    def create_volume(self, volume: Volume) -> None:
        self._strike("create_volume")
        self._grow(volume.name, volume.size)

    def delete_volume(self, volume: Volume) -> None:
        self._strike("delete_volume")
        self._remove(volume.name)

    def create_snapshot(self, snapshot: Snapshot) -> None:
        self._strike("create_snapshot")
        self._copy(snapshot.volume.name, snapshot.name, snapshot.volume_size)

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        self._strike("delete_snapshot")
        self._remove(snapshot.name)

    def create_volume_from_snapshot(self, volume: Volume, snapshot: Snapshot) -> None:
        self._strike("create_volume_from_snapshot")
        self._copy(snapshot.name, volume.name, volume.size)

    def create_cloned_volume(self, volume: Volume, src_vref: Volume) -> None:
        self._strike("create_cloned_volume")
        self._copy(src_vref.name, volume.name, volume.size)

    def extend_volume(self, volume: Volume, new_size: int) -> None:
        self._strike("extend_volume")
        self._grow(volume.name, new_size)

    def ensure_export(self, context: object, volume: Volume) -> None:
        pass

    def create_export(self, context: object, volume: Volume, connector: object) -> None:
        pass

    def remove_export(self, context: object, volume: Volume) -> None:
        pass

    def initialize_connection(self, volume: Volume, connector: object) -> dict[str, object]:
        self._strike("initialize_connection")
        return {"driver_volume_type": "local", "data": {"device_path": self._path(volume.name)}}

    def terminate_connection(self, volume: Volume, connector: object, **_: object) -> None:
        self._strike("terminate_connection")

    def _update_volume_stats(self) -> None:
        total_gb = self.configuration.capacity_gb
        files = os.scandir(self.configuration.volumes)
        used_gb = sum(file.stat().st_size for file in files) / units.Gi
        pool = {
            "pool_name": "files",
            "total_capacity_gb": total_gb,
            "free_capacity_gb": max(0.0, total_gb - used_gb),
            "reserved_percentage": 0,
            "QoS_support": False,
            "multiattach": True,
            "thin_provisioning_support": False,
            "thick_provisioning_support": True,
            "filter_function": self.get_filter_function(),
            "goodness_function": self.get_goodness_function(),
        }
        self._stats = {
            "volume_backend_name": "files",
            "vendor_name": "volplug",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "pools": [pool],
        }

    def _strike(self, operation: str) -> None:
        strike(self.configuration.faults, operation, OrderedFaultError)

    def _path(self, name: str) -> str:
        return os.path.join(self.configuration.volumes, name)

    def _grow(self, name: str, size_gb: int) -> None:
        with open(self._path(name), "ab") as file:
            file.truncate(size_gb * units.Gi)

    def _copy(self, source: str, name: str, size_gb: int) -> None:
        self._execute("cp", "--sparse=always", "--reflink=auto", self._path(source), self._path(name))
        self._grow(name, size_gb)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))
