"""A cloud in memory for tests, shared by any number of drivers (nodes). It has no devices to mount.

It follows the contract exactly, so that the core can be tested on a backend that several hosts share.
`volplug.testing.host.MemoryHost` is the host for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from volplug.descriptions import checked
from volplug.drivers.base import BackendLimit, DriverInfo, Holder, Scope, failed_check
from volplug.errors import (
    DuplicateVolumes,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.findings import Finding, Level
from volplug.models import (
    BlockDevice,
    FilesystemPhase,
    FilesystemTag,
    HolderState,
    MountSource,
    NamedFilesystem,
    Volume,
    VolumeSpec,
    VolumeState,
)

_OWN_FILESYSTEM: Final = "zfs"
_INFO: Final = DriverInfo(driver="memory", scope=Scope.GLOBAL, remote=True)


@dataclass
class MemoryCloud:
    """The state of the cloud.

    Attributes:
        volumes: Volume id to volume.
        clusters: Volume id to the cluster in which it was created.
        dead_nodes: Nodes that are proven dead.
        silent_nodes: Nodes whose state is unknown until they are fenced.
        outage: Raised by every call while set.
        calls: Names of the calls made, in order.
    """

    volumes: dict[str, Volume] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)
    dead_nodes: set[str] = field(default_factory=set)
    silent_nodes: set[str] = field(default_factory=set)
    outage: VolplugError | None = None
    calls: list[str] = field(default_factory=list)

    def record_call(self, call: str) -> None:
        """Count a call, and fail it during an outage."""
        self.calls.append(call)
        if self.outage is not None:
            raise type(self.outage)(self.outage.cause, self.outage.remedy)


def device_of(volume_id: str) -> str:
    """Return the device of a volume, the same on all nodes."""
    return f"memory:{volume_id}"


class MemoryDriver:
    """One node's view of the cloud. See `volplug.drivers.base.Driver` for the contract."""

    def __init__(
        self, cloud: MemoryCloud, node_id: str = "node-a", backend: str = "memory", cluster: str = ""
    ) -> None:
        self._cloud = cloud
        self._cluster = cluster
        self._node_id = node_id
        self._backend = backend

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return the name of this node."""
        return self._node_id

    def check_spec(self, spec: VolumeSpec) -> None:
        """Accept every spec: the driver has no options of its own."""

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume, or finish one whose creation began with the same spec."""
        self._cloud.record_call("create")
        _INFO.check_size(spec.size_bytes)
        existing = self._named(spec.name)
        if existing is not None:
            if existing.state is not VolumeState.INCOMPLETE or existing.spec != spec:
                raise VolumeExists(f"{existing.volume_id} has this name")
            return self._put(replace(existing, state=VolumeState.AVAILABLE))
        return self._put(
            Volume(
                name=spec.name,
                volume_id=f"mem-{uuid.uuid4().hex[:8]}",
                backend=self._backend,
                size_bytes=spec.size_bytes,
                state=VolumeState.AVAILABLE,
                spec=spec,
                filesystem=self._new_filesystem(),
                created_at=datetime.now(UTC).replace(microsecond=0),
            )
        )

    async def delete(self, volume: Volume) -> None:
        """Delete a detached volume."""
        self._cloud.record_call("delete")
        current = self._current(volume)
        if current.holder is not None:
            raise VolumeInUse(f"node {current.holder} holds the volume", holder=current.holder)
        del self._cloud.volumes[volume.volume_id]

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name."""
        self._cloud.record_call("get")
        return self._named(name)

    async def list(self) -> Sequence[Volume]:
        """Return all volumes."""
        self._cloud.record_call("list")
        return [self._described(volume) for volume in self._visible()]

    async def attach(self, volume: Volume) -> MountSource:
        """Attach to this node."""
        self._cloud.record_call("attach")
        current = self._current(volume)
        if current.holder not in (None, self._node_id):
            raise VolumeInUse(f"node {current.holder} holds the volume", holder=current.holder or "")
        self._put(replace(current, state=VolumeState.IN_USE, holder=self._node_id))
        return self._source(current)

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the device if this node has the volume."""
        current = self._find(volume.volume_id)
        if current is None or current.holder != self._node_id:
            return None
        return self._source(current)

    async def detach(self, volume: Volume) -> None:
        """Detach from this node."""
        self._cloud.record_call("detach")
        current = self._current(volume)
        if current.holder == self._node_id:
            self._put(replace(current, state=VolumeState.AVAILABLE, holder=None))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Record the filesystem tag."""
        self._cloud.record_call("tag_filesystem")
        tagged = self._put(replace(self._current(volume), filesystem=tag))
        return replace(tagged, backend=self._backend)

    async def holder_state(self, node_id: str) -> Holder:
        """Return the state that the test has set for the node."""
        self._cloud.record_call("holder_state")
        if node_id in self._cloud.dead_nodes:
            return Holder(HolderState.DEAD, f"{node_id} is stopped")
        if node_id in self._cloud.silent_nodes:
            return Holder(HolderState.UNKNOWN, f"{node_id} does not answer", f"stop {node_id}")
        return Holder(HolderState.ALIVE, f"{node_id} is running")

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach from a node that the test has declared dead."""
        self._cloud.record_call("take_from")
        current = self._current(volume)
        if current.holder != node_id:
            return
        if node_id not in self._cloud.dead_nodes:
            raise VolumeInUse(f"node {node_id} holds the volume and is not proven dead", holder=node_id)
        self._put(replace(current, state=VolumeState.AVAILABLE, holder=None))

    async def fence(self, node_id: str) -> None:
        """Declare the node dead."""
        self._cloud.record_call("fence")
        self._cloud.dead_nodes.add(node_id)

    async def health(self) -> None:
        """Fail during an outage."""
        self._cloud.record_call("health")

    async def limits(self) -> Sequence[BackendLimit]:
        """Return how many volumes the cloud has, of all clusters."""
        self._cloud.record_call("limits")
        return [BackendLimit("volumes", len(self._cloud.volumes), None, "volumes")]

    async def diagnose(self) -> Sequence[Finding]:
        """Report whether the cloud answers."""
        try:
            self._cloud.record_call("diagnose")
        except VolplugError as error:
            return [failed_check("cloud", self._backend, error)]
        found = f"the cloud answers, with {len(self._visible())} volumes"
        return [Finding("cloud", Level.GREEN, self._backend, found)]

    def _visible(self) -> Sequence[Volume]:
        return [volume for volume in self._cloud.volumes.values() if self._is_ours(volume.volume_id)]

    def _is_ours(self, volume_id: str) -> bool:
        return self._cloud.clusters.get(volume_id, self._cluster) == self._cluster

    def _find(self, volume_id: str) -> Volume | None:
        return self._cloud.volumes.get(volume_id) if self._is_ours(volume_id) else None

    def _named(self, name: str) -> Volume | None:
        found = [volume for volume in self._visible() if self._described(volume).name == name]
        if len(found) > 1:
            ids = tuple(volume.volume_id for volume in found)
            raise DuplicateVolumes(
                f"{' and '.join(ids)} carry this name", "Nothing was changed; rename one", volume_ids=ids
            )
        return self._described(found[0]) if found else None

    def _described(self, volume: Volume) -> Volume:
        return checked(replace(volume, backend=self._backend), lambda what: f"the volume's {what}")

    def _current(self, volume: Volume) -> Volume:
        current = self._find(volume.volume_id)
        if current is None:
            raise VolumeNotFound(f"{volume.volume_id} does not exist any more")
        return current

    def _put(self, volume: Volume) -> Volume:
        self._cloud.volumes[volume.volume_id] = volume
        self._cloud.clusters.setdefault(volume.volume_id, self._cluster)
        return volume

    def _new_filesystem(self) -> FilesystemTag:
        return FilesystemTag()

    def _source(self, volume: Volume) -> MountSource:
        return BlockDevice(device_of(volume.volume_id), volume.volume_id, volume.size_bytes)


class MemoryFilesystemDriver(MemoryDriver):
    """One node's view of a cloud whose volumes are filesystems from their creation, without devices."""

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return replace(_INFO, own_filesystem=_OWN_FILESYSTEM)

    def _new_filesystem(self) -> FilesystemTag:
        return FilesystemTag(FilesystemPhase.FORMATTING, _OWN_FILESYSTEM, str(uuid.uuid4()))

    def _source(self, volume: Volume) -> MountSource:
        return NamedFilesystem(device_of(volume.volume_id), volume.volume_id, _OWN_FILESYSTEM)
