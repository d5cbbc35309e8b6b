"""The EBS driver: volumes of one cluster in one region, attached to the EC2 instance that this host is.

Everything that is known of a volume stands in its tags and its attachment. What this process remembers
bridges the seconds in which look-ups of EC2 do not know yet what EC2 has confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from volplug.drivers.base import BackendConfig, DriverInfo, Holder, Scope
from volplug.drivers.ebs import options
from volplug.drivers.ebs.attaching import Attaching
from volplug.drivers.ebs.cloud import Cloud
from volplug.drivers.ebs.creation import Creation, the_one
from volplug.drivers.ebs.deletion import Deletion
from volplug.drivers.ebs.detaching import Detaching
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.ec2 import Ec2
from volplug.drivers.ebs.faults import Ec2Refused, translated
from volplug.drivers.ebs.identity import HostIdentity, Identity
from volplug.drivers.ebs.lookups import GONE, Caller, Lookups
from volplug.drivers.ebs.nodes import Nodes
from volplug.drivers.ebs.patience import Patience
from volplug.drivers.ebs.recent import Recent
from volplug.drivers.ebs.settings import EbsSettings, load_settings
from volplug.drivers.ebs.states import States
from volplug.drivers.ebs.tags import fs_tags
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
    return EbsDriver(config, settings, host, Ec2(settings, host), Patience(proof_s=settings.proof_s))


class EbsDriver:
    """See `volplug.drivers.base.Driver` and `TakesOver` for the contract.

    Args:
        config: What the backend is called, and whose volumes it has.
        settings: Its settings.
        host: Knows which instance this is.
        caller: Calls EC2.
        patience: How long is waited for what.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        config: BackendConfig,
        settings: EbsSettings,
        host: HostIdentity,
        caller: Caller,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = config.cluster
        self._backend = config.name
        self._host = host
        self._caller = caller
        self._recent = Recent(clock)
        self._lookups = Lookups(caller, config.cluster, config.name, self._recent, clock, patience)
        sysfs = Sysfs(settings.sys_root, settings.dev_root)
        notes = config.state_dir / "backends" / f"{config.name}.disks.json"
        self._disks = Disks(sysfs, settings.nvme_model, notes, config.name, clock)
        states = States(self._lookups.by_ids, patience.poll_first_s, patience.poll_longest_s)
        cloud = Cloud(caller, self._lookups, states, self._recent, patience)
        self._creation = Creation(cloud, settings, config.cluster, config.name, clock)
        self._deletion = Deletion(cloud, self._creation.forget)
        self._attaching = Attaching(cloud, self._disks)
        self._detaching = Detaching(cloud, self._disks, self._attaching.leaving)
        self._nodes = Nodes(cloud, may_force=settings.force_detach)

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return the id of this instance, or "" until it is known."""
        return self._host.known.instance_id if self._host.known else ""

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options, and the size that the type comes in."""
        options.check_options(spec)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume; EC2 may still be preparing it when it is answered."""
        node = await self._node()
        _INFO.check_size(spec.size_bytes)
        options.check_options(spec)
        return await run_to_completion(self._creation.create(spec, node.zone))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume; EC2 takes that back never, so it is gone."""
        await self._ensure_ours(volume)
        await run_to_completion(self._deletion.delete(volume))
        self._attaching.leaving.discard(volume.volume_id)

    async def get(self, name: str) -> Volume | None:
        """Return the volume of a name; look-ups that come together are one call."""
        await self._node()
        volume = the_one([each.volume for each in await self._lookups.by_name(name)])
        return volume or await self._listed_by_id(name)

    async def _listed_by_id(self, name: str) -> Volume | None:
        """Return the volume that is listed under its id, because the name in its tag cannot be used."""
        if not name.startswith("vol-"):
            return None
        description = await self._lookups.by_id(name)
        if description is None or description.get("State") in GONE:
            return None
        volume = self._lookups.note(description)
        return volume if volume.name == name else None

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, page by page."""
        await self._node()
        return await self._lookups.all()

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume and wait for its disk."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._attaching.attach(volume, node))

    async def locate(self, volume: Volume) -> MountSource | None:
        """Return the disk of a volume; asks sysfs alone."""
        return await self._disks.locate(volume)

    async def detach(self, volume: Volume) -> None:
        """Detach a volume and wait until its disk has gone."""
        node = await self._ensure_ours(volume)
        await run_to_completion(self._detaching.detach(volume, node))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write both filesystem tags in one call."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._tag(volume, tag, node))

    async def holder_state(self, node_id: str) -> Holder:
        """Ask EC2 whether another instance is alive."""
        if node_id == (await self._node()).instance_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return await self._nodes.holder_state(node_id)

    async def health(self) -> None:
        """Look for nothing, which takes credentials, region, network and the permission to look."""
        await self._node()
        await self._lookups.by_ids(["vol-00000000000000000"])

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach a volume from a stopped or terminated instance."""
        await self._ensure_ours(volume)
        await run_to_completion(self._nodes.take_from(volume, node_id))

    async def fence(self, node_id: str) -> None:
        """Stop an instance."""
        if node_id == (await self._node()).instance_id:
            raise ConfigurationError("this host does not stop itself")
        await run_to_completion(self._nodes.fence(node_id))

    async def _tag(self, volume: Volume, tag: FilesystemTag, node: Identity) -> Volume:
        try:
            await self._caller.call("CreateTags", Resources=[volume.volume_id], Tags=fs_tags(tag))
        except Ec2Refused as refused:
            if refused.code.startswith("InvalidVolume"):
                raise VolumeNotFound(f"{volume.volume_id} does not exist") from refused
            raise translated(refused) from refused
        self._recent.tagged(volume.volume_id, tag, before=volume.filesystem)
        now = self._recent.corrected(replace(volume, filesystem=tag))
        if await self._disks.shows(volume.volume_id):
            return replace(now, state=VolumeState.IN_USE, holder=node.instance_id)
        return now

    async def _ensure_ours(self, volume: Volume) -> Identity:
        """Refuse to change what was not seen to be a volume of the cluster; ask EC2 if it was never seen.

        Raises:
            VolumeNotFound: If it is none.
        """
        node = await self._node()
        is_ours = self._lookups.is_known(volume.volume_id) or self._recent.is_new(volume.volume_id)
        if not self._recent.is_deleted(volume.volume_id) and (
            is_ours or await self._lookups.by_id(volume.volume_id)
        ):
            return node
        raise VolumeNotFound(f"{volume.volume_id} does not exist in cluster {self._cluster!r}")

    async def _node(self) -> Identity:
        """Return which instance this is, for whoever works on volumes.

        Raises:
            ConfigurationError: If that is not known, or whose volumes are meant.
        """
        if not self._cluster:
            raise ConfigurationError(
                "volumes on EBS belong to a cluster, and none is named",
                "Set VOLPLUG_CLUSTER to one name on all hosts that share volumes",
            )
        return self._host.known or await self._host.get()
