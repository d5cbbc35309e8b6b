"""The EBS driver: volumes of one cluster in one region, attached to the EC2 instance that this host is.

A volume's description is in its tags and its attachment. In memory are only the volumes that this process
created and deleted within the last minute, which reads of EC2 may not show yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from volplug.drivers.base import BackendConfig, DriverInfo, Holder, Scope
from volplug.drivers.ebs import options
from volplug.drivers.ebs.attachments import Attachments
from volplug.drivers.ebs.creation import VolumeCreator
from volplug.drivers.ebs.deletion import VolumeDeleter
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.ec2 import Ec2, is_sdk_installed, sdk_missing
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.instance import HostIdentity, Identity
from volplug.drivers.ebs.settings import EbsSettings, load_settings
from volplug.drivers.ebs.tags import fs_tags
from volplug.drivers.ebs.takeover import Takeover
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, the_one
from volplug.errors import ConfigurationError, VolumeNotFound
from volplug.host.sysfs import Sysfs
from volplug.host.threads import run_to_completion
from volplug.models import FilesystemTag, HolderState, MountSource, Volume, VolumeSpec, VolumeState

_INFO: Final = DriverInfo(
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


def build(config: BackendConfig) -> EbsDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    host = HostIdentity(settings)
    limits = Ec2Timeouts(proof_s=settings.proof_s, poll_first_s=settings.poll_s)
    return EbsDriver(config, settings, host, Ec2(settings, host), limits)


class EbsDriver:
    """See `volplug.drivers.base.Driver`, `Settles`, `ExplainsAbsence` and `TakesOver` for the contract.

    Args:
        config: The backend's name and cluster, among others.
        settings: Its settings.
        host: Identifies this instance.
        caller: Calls EC2.
        limits: Timeouts and counts.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: BackendConfig,
        settings: EbsSettings,
        host: HostIdentity,
        caller: Caller,
        limits: Ec2Timeouts = Ec2Timeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = config.cluster
        self._host = host
        self._caller = caller
        sysfs = Sysfs(settings.sys_root, settings.dev_root)
        notes = config.state_dir / "backends" / f"{config.name}.disks.json"
        self._disks = Disks(sysfs, settings.nvme_model, notes, config.name, clock)
        volumes = self._volumes = ClusterVolumes(caller, config.cluster, config.name, limits, clock)
        self._creation = VolumeCreator(caller, volumes, settings, limits, clock)
        self._deletion = VolumeDeleter(caller, volumes, limits)
        self._attachments = Attachments(caller, volumes, self._disks, limits)
        self._takeover = Takeover(caller, volumes, self._attachments, limits, may_force=settings.force_detach)

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return the id of this instance, or "" until it is known."""
        return self._host.known.instance_id if self._host.known else ""

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options, and the size against the type's limits."""
        options.check_options(spec)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume and wait until it is available."""
        node = await self._node()
        _INFO.check_size(spec.size_bytes)
        options.check_options(spec)
        return await run_to_completion(self._creation.create(spec, node.zone))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume; EC2 cannot undo a deletion, so it counts as gone."""
        await self._ensure_ours(volume)
        await run_to_completion(self._deletion.delete(volume))
        self._creation.deleted(volume)

    async def get(self, name: str) -> Volume | None:
        """Return the volume of a name; concurrent look-ups are one call."""
        await self._node()
        return the_one(await self._volumes.by_name(name)) or await self._listed_by_id(name)

    async def absence(self, name: str) -> VolumeNotFound:
        """Name the cluster: one with another name, or of another host, hides volumes."""
        return VolumeNotFound(
            f"cluster {self._cluster!r} has no such volume",
            f"Check VOLPLUG_CLUSTER, or create it: docker volume create -d volplug {name}",
        )

    async def _listed_by_id(self, name: str) -> Volume | None:
        """Return the volume that is listed under its id because the name in its tag is invalid."""
        if not name.startswith("vol-"):
            return None
        seen = await self._volumes.by_id(name)
        is_listed = seen is not None and seen.state is not VolumeState.DELETING and seen.volume.name == name
        return seen.volume if seen and is_listed else None

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, page by page."""
        await self._node()
        return await self._volumes.all()

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

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """Wait on the shared poll until the volume is in no transition."""
        await self._node()
        seen = await self._volumes.wait_settled(volume.volume_id, timeout_s)
        return None if seen is None or seen.state is VolumeState.DELETING else seen.volume

    async def holder_state(self, node_id: str) -> Holder:
        """Ask EC2 whether another instance is alive."""
        if node_id == (await self._node()).instance_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return await self._takeover.holder_state(node_id)

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach a volume from a stopped or terminated instance."""
        await self._ensure_ours(volume)
        await run_to_completion(self._takeover.take_from(volume, node_id))

    async def fence(self, node_id: str) -> None:
        """Stop an instance."""
        if node_id == (await self._node()).instance_id:
            raise ConfigurationError("this host does not stop itself")
        await run_to_completion(self._takeover.fence(node_id))

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        """Return whether the cluster or the SDK is missing."""
        unmet = [] if self._cluster else [_no_cluster()]
        return unmet if is_sdk_installed() else [*unmet, sdk_missing("no module named boto3")]

    async def health(self) -> None:
        """Describe a volume that does not exist; tests credentials, region, network and permission."""
        await self._node()
        await self._volumes.by_ids(["vol-00000000000000000"])

    async def _ensure_ours(self, volume: Volume) -> Identity:
        """Refuse to change a volume that is not one of the cluster; ask EC2 about an unknown one.

        Raises:
            VolumeNotFound: If it is not one of the cluster.
        """
        node = await self._node()
        is_deleted = self._volumes.own.is_deleted(volume.volume_id)
        is_known = self._volumes.is_known(volume.volume_id)
        if not is_deleted and (is_known or await self._volumes.by_id(volume.volume_id)):
            return node
        raise VolumeNotFound(f"{volume.volume_id} does not exist in cluster {self._cluster!r}")

    async def _node(self) -> Identity:
        """Identify this instance, before any work on volumes.

        Raises:
            ConfigurationError: If it cannot be identified, or no cluster is configured.
        """
        if not self._cluster:
            raise _no_cluster()
        return self._host.known or await self._host.get()


def _no_cluster() -> ConfigurationError:
    return ConfigurationError(
        "volumes on EBS belong to a cluster, and none is named",
        "Set VOLPLUG_CLUSTER to one name on all hosts that share volumes",
    )
