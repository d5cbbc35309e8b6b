"""What drivers of clouds have in common: volumes of one cluster, on a host that the cloud identifies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from volplug.drivers.base import BackendConfig, DriverInfo, Holder
from volplug.drivers.cloud.attachments import CloudAttachments
from volplug.drivers.cloud.calls import Sdk
from volplug.drivers.cloud.diagnosis import Examined
from volplug.drivers.cloud.identity import CloudNode, ThisNode
from volplug.drivers.cloud.tags import filesystem_tags
from volplug.drivers.cloud.takeover import CloudTakeover
from volplug.drivers.cloud.volumes import CloudVolume, CloudVolumes
from volplug.errors import ConfigurationError, VolumeNotFound
from volplug.host.threads import run_to_completion
from volplug.models import BlockDevice, FilesystemTag, HolderState, Volume, VolumeSpec, VolumeState

_SeenT = TypeVar("_SeenT", bound=CloudVolume)
_NodeT = TypeVar("_NodeT", bound=CloudNode)


class CloudDriver(ABC, Generic[_SeenT, _NodeT]):
    """See `Driver`, `Settles`, `ExplainsAbsence`, `Diagnoses` and `TakesOver` of `volplug.drivers.base`.

    Args:
        config: The backend's configuration.
        host: Identifies this host.
        volumes: The cluster's volumes.
        attachments: Attaches and detaches them.
        takeover: Takes volumes from other hosts.
    """

    _INFO: ClassVar[DriverInfo]
    _SDK: ClassVar[Sdk]
    _NO_VOLUME: ClassVar[str]  # an id that no volume has

    def __init__(
        self,
        config: BackendConfig,
        host: ThisNode[_NodeT],
        volumes: CloudVolumes[_SeenT],
        attachments: CloudAttachments[_SeenT, _NodeT],
        takeover: CloudTakeover[_SeenT],
    ) -> None:
        self._backend = config.name
        self._cluster = config.cluster
        self._host = host
        self._cluster_volumes = volumes
        self._attachments = attachments
        self._takeover = takeover

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return self._INFO

    @property
    def node_id(self) -> str:
        """Return the cloud's id of this host, or "" until it is known."""
        return self._host.known.node_id if self._host.known else ""

    @abstractmethod
    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options."""

    @abstractmethod
    async def _create(self, spec: VolumeSpec, zone: str) -> Volume:
        """Create a volume of a checked spec, in this host's zone unless told otherwise."""

    @abstractmethod
    async def _delete(self, volume: Volume) -> None:
        """Delete a volume of the cluster."""

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume and wait until it is available."""
        node = await self._node()
        self._INFO.check_size(spec.size_bytes)
        self.check_spec(spec)
        return await run_to_completion(self._create(spec, node.zone))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume; it is gone as soon as the cloud cannot keep it any more."""
        await self._ensure_ours(volume)
        await run_to_completion(self._delete(volume))

    async def attach(self, volume: Volume) -> BlockDevice:
        """Attach a volume and wait for its disk."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._attach(volume, node))

    async def _attach(self, volume: Volume, node: _NodeT) -> BlockDevice:
        return await self._attachments.attach(volume, node)

    def locate(self, volume: Volume) -> BlockDevice | None:
        """Return the disk of a volume; reads only sysfs."""
        return self._attachments.disks.find(volume)

    async def detach(self, volume: Volume) -> None:
        """Detach a volume and wait until its disk has gone and the cloud reports that, too."""
        node = await self._ensure_ours(volume)
        await run_to_completion(self._attachments.detach(volume, node))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write both filesystem tags in one call."""
        await self._ensure_ours(volume)
        await self._cluster_volumes.write_tags(volume.volume_id, filesystem_tags(tag))
        return replace(volume, filesystem=tag)

    async def health(self) -> None:
        """Look a volume up that does not exist; tests credentials, region, network and permission."""
        await self._node()
        await self._cluster_volumes.by_id(self._NO_VOLUME)

    async def get(self, name: str) -> Volume | None:
        """Return the volume of a name; concurrent look-ups are combined."""
        await self._node()
        return self._one_of(await self._cluster_volumes.by_name(name)) or await self._listed_by_id(name)

    @abstractmethod
    def _one_of(self, found: Sequence[_SeenT]) -> Volume | None:
        """Return the volume of a name among all that have it; raises DuplicateVolumes."""

    async def _listed_by_id(self, name: str) -> Volume | None:
        """Return the volume that is listed under its id because the name in its tag is invalid."""
        seen = await self._cluster_volumes.by_id(name)
        is_listed = seen is not None and seen.state is not VolumeState.DELETING and seen.volume.name == name
        return seen.volume if seen and is_listed else None

    async def absence(self, name: str) -> VolumeNotFound:
        """Name the cluster: one with another name, or of another host, hides volumes."""
        return VolumeNotFound(
            f"cluster {self._cluster!r} has no such volume",
            f"Check VOLPLUG_CLUSTER, or create it: docker volume create -d volplug {name}",
        )

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, page by page."""
        await self._node()
        return [each.volume for each in await self._cluster_volumes.all()]

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """Wait on the shared poll until the volume is in no transition."""
        await self._node()
        seen = await self._cluster_volumes.wait_settled(volume.volume_id, timeout_s)
        return None if seen is None or seen.state is VolumeState.DELETING else seen.volume

    async def holder_state(self, node_id: str) -> Holder:
        """Ask the cloud whether another node is alive."""
        if node_id == (await self._node()).node_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return await self._takeover.holder_state(node_id)

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach a volume from a node that is off."""
        await self._ensure_ours(volume)
        await run_to_completion(self._takeover.take_from(volume, node_id))

    async def fence(self, node_id: str) -> None:
        """Stop a node."""
        if node_id == (await self._node()).node_id:
            raise ConfigurationError("this host does not stop itself")
        await run_to_completion(self._takeover.fence(node_id))

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        """Return whether the cluster or the SDK is missing."""
        unmet = [] if self._cluster else [_no_cluster()]
        return unmet if self._SDK.is_installed() else [*unmet, self._SDK.missing()]

    def _examined(self) -> Examined[_NodeT]:
        """Return what a diagnosis is told of this host."""
        return Examined(self._backend, self._node, self._takeover.holder_state)

    async def _ensure_ours(self, volume: Volume) -> _NodeT:
        """Refuse to change a volume that is not one of the cluster; ask the cloud about an unknown one.

        Raises:
            VolumeNotFound: If it is not one of the cluster.
        """
        node = await self._node()
        if not await self._cluster_volumes.is_ours(volume.volume_id):
            raise VolumeNotFound(f"{volume.volume_id} does not exist in cluster {self._cluster!r}")
        return node

    async def _node(self) -> _NodeT:
        """Identify this host, before any work on volumes.

        Raises:
            ConfigurationError: If it cannot be identified, or no cluster is configured.
        """
        if not self._cluster:
            raise _no_cluster()
        return self._host.known or await self._host.get()


def _no_cluster() -> ConfigurationError:
    return ConfigurationError(
        "volumes in a cloud belong to a cluster, and none is named",
        "Set VOLPLUG_CLUSTER to one name on all hosts that share volumes",
    )
