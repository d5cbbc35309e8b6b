"""The EBS driver: volumes of one cluster in one region, attached to the EC2 instance that this host is.

A volume's description is in its tags and its attachment. In memory are only the volumes that this process
created and deleted within the last minute, which reads of EC2 may not show yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

from volplug.drivers.base import BackendConfig, DriverInfo, Scope
from volplug.drivers.cloud.driver import CloudDriver
from volplug.drivers.ebs import options
from volplug.drivers.ebs.attachments import Attachments
from volplug.drivers.ebs.creation import VolumeCreator
from volplug.drivers.ebs.deletion import VolumeDeleter
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.ec2 import SDK, Ec2
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.instance import HostIdentity, Identity
from volplug.drivers.ebs.settings import EbsSettings, load_settings
from volplug.drivers.ebs.tags import fs_tags
from volplug.drivers.ebs.takeover import Takeover
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume, the_one
from volplug.errors import VolumeNotFound
from volplug.host.sysfs import Sysfs
from volplug.host.threads import run_to_completion
from volplug.models import FilesystemTag, MountSource, Volume, VolumeSpec


def build(config: BackendConfig) -> EbsDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    host = HostIdentity(settings)
    limits = Ec2Timeouts(proof_s=settings.proof_s, poll_first_s=settings.poll_s)
    return EbsDriver(config, settings, host, Ec2(settings, host), limits)


class EbsDriver(CloudDriver[Ec2Volume, Identity]):
    """See `CloudDriver`.

    Args:
        config: The backend's name and cluster, among others.
        settings: Its settings.
        host: Identifies this instance.
        caller: Calls EC2.
        limits: Timeouts and counts.
        clock: Monotonic seconds.
    """

    _INFO = DriverInfo(
        driver="ebs",
        scope=Scope.GLOBAL,
        remote=True,
        allocation_unit_bytes=options.ALLOCATION_UNIT_BYTES,
        default_size_bytes=options.DEFAULT_SIZE_BYTES,
        minimum_size_bytes=options.MINIMUM_SIZE_BYTES,
        maximum_size_bytes=options.MAXIMUM_SIZE_BYTES,
        default_linger_s=5.0,
        options=options.OPTIONS,
        option_aliases=options.OPTION_ALIASES,
        profiles=MappingProxyType(options.PROFILES),
    )
    _SDK = SDK

    def __init__(
        self,
        config: BackendConfig,
        settings: EbsSettings,
        host: HostIdentity,
        caller: Caller,
        limits: Ec2Timeouts = Ec2Timeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        sysfs = Sysfs(settings.sys_root, settings.dev_root)
        notes = config.state_dir / "backends" / f"{config.name}.disks.json"
        volumes = ClusterVolumes(caller, config.cluster, config.name, limits, clock)
        self._caller = caller
        self._disks = Disks(sysfs, settings.nvme_model, notes, config.name, clock)
        self._creation = VolumeCreator(caller, volumes, settings, limits, clock)
        self._deletion = VolumeDeleter(caller, volumes, limits)
        self._attachments = Attachments(caller, volumes, self._disks, limits)
        takeover = Takeover(caller, volumes, self._attachments, limits, may_force=settings.force_detach)
        super().__init__(config.cluster, host, volumes, self._creation.create, takeover)

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options, and the size against the type's limits."""
        options.check_options(spec)

    async def delete(self, volume: Volume) -> None:
        """Delete a volume; EC2 cannot undo a deletion, so it counts as gone."""
        await self._ensure_ours(volume)
        await run_to_completion(self._deletion.delete(volume))
        self._creation.deleted(volume)

    def _one_of(self, found: Sequence[Ec2Volume]) -> Volume | None:
        return the_one(found)

    async def _listed_by_id(self, name: str) -> Volume | None:
        return await super()._listed_by_id(name) if name.startswith("vol-") else None

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume and wait for its disk."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._attachments.attach(volume, node))

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the disk of a volume; reads only sysfs."""
        return self._disks.find(volume)

    async def detach(self, volume: Volume) -> None:
        """Detach a volume and wait until its disk has gone and EC2 reports it available."""
        node = await self._ensure_ours(volume)
        await run_to_completion(self._attachments.detach(volume, node))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write both filesystem tags in one call."""
        await self._ensure_ours(volume)
        try:
            await self._caller.call("CreateTags", Resources=[volume.volume_id], Tags=fs_tags(tag))
        except Ec2Refused as refused:
            if refused.code.startswith("InvalidVolume"):
                raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
            raise translated(refused) from refused
        return replace(volume, filesystem=tag)

    async def health(self) -> None:
        """Describe a volume that does not exist; tests credentials, region, network and permission."""
        await self._node()
        await self._cluster_volumes.by_ids(["vol-00000000000000000"])
