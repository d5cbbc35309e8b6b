"""The Cinder driver: volumes of one cluster in one project, attached to the server of Nova that this host is.

A volume's description is in its metadata and its attachment. On this host are only the notes of creations
that were begun here and whose volumes were not attached yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from volplug.drivers.base import BackendConfig, DriverInfo, Scope
from volplug.drivers.cinder import options
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.creation import CinderCreator
from volplug.drivers.cinder.deletion import CinderDeleter
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.duplicates import chosen_of
from volplug.drivers.cinder.notes import CreationNotes
from volplug.drivers.cinder.openstack import SDK, OpenStack, OpenStackCaller
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import CinderSettings, load_settings
from volplug.drivers.cinder.takeover import ServerTakeover
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.driver import CloudDriver
from volplug.drivers.cloud.identity import CloudNode
from volplug.drivers.cloud.tags import filesystem_tags
from volplug.host.sysfs import Sysfs
from volplug.host.threads import run_to_completion
from volplug.models import FilesystemTag, MountSource, Volume, VolumeSpec
from volplug.sizes import MIB

_LUKS_HEADER_BYTES: Final = 16 * MIB  # of LUKS2; LUKS1 takes 2 MiB: cryptsetup(8)


def build(config: BackendConfig) -> CinderDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    caller = OpenStack(settings)
    limits = CinderTimeouts(proof_s=settings.proof_s, poll_first_s=settings.poll_s, race_s=settings.race_s)
    return CinderDriver(config, settings, ThisServer(settings, caller), caller, limits)


class CinderDriver(CloudDriver[CinderVolume, CloudNode]):
    """See `CloudDriver`.

    Args:
        config: The backend's name and cluster, among others.
        settings: Its settings.
        host: Identifies this server.
        caller: Calls Cinder and Nova.
        limits: Timeouts and counts.
        clock: Monotonic seconds.
    """

    _INFO = DriverInfo(
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
    _SDK = SDK

    def __init__(
        self,
        config: BackendConfig,
        settings: CinderSettings,
        host: ThisServer,
        caller: OpenStackCaller,
        limits: CinderTimeouts = CinderTimeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._noisy: set[str] = set()  # volumes in the first attachment since this host created them
        notes = config.state_dir / "backends" / f"{config.name}.creations.json"
        creations = CreationNotes(notes, config.on_step)
        volumes = self._volumes = CinderVolumes(caller, config.cluster, config.name, limits, clock)
        self._disks = guest_disks(Sysfs(settings.sys_root, settings.dev_root), config.name)
        self._creation = CinderCreator(caller, volumes, creations, settings, limits)
        self._deletion = CinderDeleter(caller, volumes, limits)
        self._attachments = ServerAttachments(caller, volumes, self._disks, limits)
        takeover = ServerTakeover(caller, volumes, self._attachments, limits)
        super().__init__(config.cluster, host, volumes, self._creation.create, takeover)

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options."""
        options.check_options(spec)

    async def delete(self, volume: Volume) -> None:
        """Delete a volume and wait until it is gone."""
        await self._ensure_ours(volume)
        await run_to_completion(self._delete(volume))

    async def _delete(self, volume: Volume) -> None:
        await self._deletion.delete(volume)
        await self._creation.deleted(volume)

    def _one_of(self, found: Sequence[CinderVolume]) -> Volume | None:
        chosen = chosen_of(found)
        return chosen.volume if chosen else None

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume and wait for its disk."""
        node = await self._ensure_ours(volume)
        return await run_to_completion(self._attach(volume, node))

    async def _attach(self, volume: Volume, node: CloudNode) -> MountSource:
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

    async def health(self) -> None:
        """Look a volume up that does not exist; tests credentials, region, network and permission."""
        await self._node()
        await self._volumes.by_id("00000000-0000-0000-0000-000000000000")
