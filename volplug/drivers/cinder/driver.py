"""The Cinder driver: volumes of one cluster in one project, attached to the server of Nova that this host is.

A volume's description is in its metadata and its attachment. On this host are only the notes of creations
that were begun here and whose volumes were not attached yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from volplug.drivers.base import BackendConfig, DriverInfo, Holder, Scope
from volplug.drivers.cinder import options
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.creation import CinderCreator
from volplug.drivers.cinder.deletion import CinderDeleter
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.duplicates import chosen_of
from volplug.drivers.cinder.notes import CreationNotes
from volplug.drivers.cinder.openstack import OpenStack, OpenStackCaller, is_sdk_installed, sdk_missing
from volplug.drivers.cinder.server import ServerIdentity, ThisServer
from volplug.drivers.cinder.settings import CinderSettings, load_settings
from volplug.drivers.cinder.takeover import ServerTakeover
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolumes
from volplug.drivers.cloud.tags import filesystem_tags
from volplug.errors import ConfigurationError, VolumeNotFound
from volplug.host.sysfs import Sysfs
from volplug.host.threads import run_to_completion
from volplug.models import FilesystemTag, HolderState, MountSource, Volume, VolumeSpec
from volplug.sizes import MIB

_LUKS_HEADER_BYTES: Final = 16 * MIB  # of LUKS2; LUKS1 takes 2 MiB: cryptsetup(8)
_INFO: Final = DriverInfo(
    driver="cinder",
    scope=Scope.GLOBAL,
    remote=True,
    allocation_unit_bytes=options.ALLOCATION_UNIT_BYTES,
    default_size_bytes=options.DEFAULT_SIZE_BYTES,
    minimum_size_bytes=options.MINIMUM_SIZE_BYTES,
    maximum_size_bytes=options.MAXIMUM_SIZE_BYTES,
    default_linger_s=5.0,
    options=options.OPTIONS,
    option_aliases=options.OPTION_ALIASES,
)


def build(config: BackendConfig) -> CinderDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    caller = OpenStack(settings)
    limits = CinderTimeouts(proof_s=settings.proof_s, poll_first_s=settings.poll_s, race_s=settings.race_s)
    return CinderDriver(config, settings, ThisServer(settings, caller), caller, limits)


class CinderDriver:
    """See `volplug.drivers.base.Driver`, `Settles` and `TakesOver` for the contract.

    Args:
        config: The backend's name and cluster, among others.
        settings: Its settings.
        host: Identifies this server.
        caller: Calls Cinder and Nova.
        limits: Timeouts and counts.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: BackendConfig,
        settings: CinderSettings,
        host: ThisServer,
        caller: OpenStackCaller,
        limits: CinderTimeouts = CinderTimeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = config.cluster
        self._noisy: set[str] = set()  # volumes in the first attachment since this host created them
        self._host = host
        notes = config.state_dir / "backends" / f"{config.name}.creations.json"
        self._disks = guest_disks(Sysfs(settings.sys_root, settings.dev_root), config.name)
        volumes = self._volumes = CinderVolumes(caller, config.cluster, config.name, limits, clock)
        creations = CreationNotes(notes, config.on_step)
        self._creation = CinderCreator(caller, volumes, creations, settings, limits)
        self._deletion = CinderDeleter(caller, volumes, limits)
        self._attachments = ServerAttachments(caller, volumes, self._disks, limits)
        self._takeover = ServerTakeover(caller, volumes, self._attachments, limits)

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return _INFO

    @property
    def node_id(self) -> str:
        """Return Nova's id of this server, or "" until it is known."""
        return self._host.known.server_id if self._host.known else ""

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options."""
        options.check_options(spec)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume and wait until it is available."""
        node = await self._node()
        _INFO.check_size(spec.size_bytes)
        options.check_options(spec)
        return await run_to_completion(self._creation.create(spec, node.zone))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume and wait until it is gone."""
        await self._ensure_ours(volume)
        await run_to_completion(self._delete(volume))

    async def _delete(self, volume: Volume) -> None:
        await self._deletion.delete(volume)
        await self._creation.deleted(volume)

    async def get(self, name: str) -> Volume | None:
        """Return the volume of a name; concurrent look-ups are combined."""
        await self._node()
        found = chosen_of(await self._volumes.by_name(name))
        return found.volume if found else await self._listed_by_id(name)

    async def absence(self, name: str) -> VolumeNotFound:
        """Name the cluster: one with another name, or of another host, hides volumes."""
        return VolumeNotFound(
            f"cluster {self._cluster!r} has no such volume",
            f"Check VOLPLUG_CLUSTER, or create it: docker volume create -d volplug {name}",
        )

    async def _listed_by_id(self, name: str) -> Volume | None:
        """Return the volume that is listed under its id because the name in its metadata is invalid."""
        seen = await self._volumes.by_id(name)
        return seen.volume if seen is not None and seen.volume.name == name else None

    async def list(self) -> Sequence[Volume]:
        """Return all volumes of the cluster, page by page."""
        await self._node()
        return [each.volume for each in await self._volumes.all()]

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume and wait for its disk."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._attach(volume, node))

    async def _attach(self, volume: Volume, node: ServerIdentity) -> MountSource:
        if await self._disks.locate(volume) is None:
            self._noisy.discard(volume.volume_id)
            if await self._creation.before_attach(volume):
                self._noisy.add(volume.volume_id)
        source = await self._attachments.attach(volume, node)
        await self._creation.after_attach(volume)
        return self._judged(volume, source)

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the disk of a volume; reads only sysfs."""
        source = self._disks.find(volume)
        return self._judged(volume, source) if source else None

    def _judged(self, volume: Volume, source: MountSource) -> MountSource:
        """Return a disk with what is known of its volume: noise on it, a header that its encryption hides."""
        return replace(
            source,
            hidden_bytes=_LUKS_HEADER_BYTES if dict(volume.details).get("encrypted") else 0,
            may_hold_noise=volume.volume_id in self._noisy,
        )

    async def detach(self, volume: Volume) -> None:
        """Detach a volume and wait until its disk has gone and Nova does not list it any more."""
        node = await self._ensure_ours(volume)
        self._noisy.discard(volume.volume_id)
        await run_to_completion(self._attachments.detach(volume, node))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Write both filesystem tags in one call."""
        await self._ensure_ours(volume)
        await self._volumes.write_metadata(volume.volume_id, filesystem_tags(tag))
        return replace(volume, filesystem=tag)

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """Wait on the shared poll until the volume is in no transition."""
        await self._node()
        seen = await self._volumes.wait_settled(volume.volume_id, timeout_s)
        return None if seen is None else seen.volume

    async def holder_state(self, node_id: str) -> Holder:
        """Ask Nova whether another server is alive."""
        if node_id == (await self._node()).server_id:
            return Holder(HolderState.ALIVE, "it is this host")
        return await self._takeover.holder_state(node_id)

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Detach a volume from a server that is off."""
        await self._ensure_ours(volume)
        await run_to_completion(self._takeover.take_from(volume, node_id))

    async def fence(self, node_id: str) -> None:
        """Stop a server."""
        if node_id == (await self._node()).server_id:
            raise ConfigurationError("this host does not stop itself")
        await run_to_completion(self._takeover.fence(node_id))

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        """Return whether the cluster or the SDK is missing."""
        unmet = [] if self._cluster else [_no_cluster()]
        return unmet if is_sdk_installed() else [*unmet, sdk_missing("no module named openstack")]

    async def health(self) -> None:
        """Look a volume up that does not exist; tests credentials, region, network and permission."""
        await self._node()
        await self._volumes.by_id("00000000-0000-0000-0000-000000000000")

    async def _ensure_ours(self, volume: Volume) -> ServerIdentity:
        """Refuse to change a volume that is not one of the cluster; ask Cinder about an unknown one.

        Raises:
            VolumeNotFound: If it is not one of the cluster.
        """
        node = await self._node()
        is_deleted = self._volumes.own.is_deleted(volume.volume_id)
        is_known = self._volumes.is_known(volume.volume_id)
        if not is_deleted and (is_known or await self._volumes.by_id(volume.volume_id)):
            return node
        raise VolumeNotFound(f"{volume.volume_id} does not exist in cluster {self._cluster!r}")

    async def _node(self) -> ServerIdentity:
        """Identify this server, before any work on volumes.

        Raises:
            ConfigurationError: If it cannot be identified, or no cluster is configured.
        """
        if not self._cluster:
            raise _no_cluster()
        return self._host.known or await self._host.get()


def _no_cluster() -> ConfigurationError:
    return ConfigurationError(
        "volumes on Cinder belong to a cluster, and none is named",
        "Set VOLPLUG_CLUSTER to one name on all hosts that share volumes",
    )
