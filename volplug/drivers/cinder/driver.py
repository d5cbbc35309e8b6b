"""The Cinder driver: volumes of one cluster in one project, attached to the server of Nova that this host is.

A volume's description is in its metadata and its attachment. On this host are only the notes of creations
that were begun here and whose volumes were not attached yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from volplug.drivers.base import BackendConfig, BackendLimit
from volplug.drivers.cinder import options
from volplug.drivers.cinder.attachments import ServerAttachments
from volplug.drivers.cinder.creation import CinderCreator, chosen_of
from volplug.drivers.cinder.deletion import CinderDeleter
from volplug.drivers.cinder.diagnosis import CinderDiagnosis, OpenStackAccount
from volplug.drivers.cinder.disks import guest_disks
from volplug.drivers.cinder.notes import CreationNotes
from volplug.drivers.cinder.openstack import SDK, OpenStack, OpenStackCaller
from volplug.drivers.cinder.quota import read_quota
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import CinderSettings, load_settings
from volplug.drivers.cinder.takeover import ServerTakeover
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cinder.volumes import CinderVolume, CinderVolumes
from volplug.drivers.cloud.driver import CloudDriver
from volplug.drivers.cloud.identity import CloudNode
from volplug.findings import Finding
from volplug.host.sysfs import Sysfs
from volplug.models import BlockDevice, Volume, VolumeSpec
from volplug.sizes import MIB

_LUKS_HEADER_BYTES: Final = 16 * MIB  # of LUKS2; LUKS1 takes 2 MiB: cryptsetup(8)


def build(config: BackendConfig) -> CinderDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    caller = OpenStack(settings, on_try=config.on_try)
    limits = CinderTimeouts(
        proof_s=settings.proof_s,
        poll_first_s=settings.poll_s,
        poll_longest_s=settings.poll_later_s,
        race_s=settings.race_s,
    )
    return CinderDriver(config, settings, ThisServer(settings, caller), caller, caller, limits)


class CinderDriver(CloudDriver[CinderVolume, CloudNode]):
    """See `CloudDriver`, and `ReportsLimits`."""

    _INFO = options.INFO
    _SDK = SDK
    _NO_VOLUME = "00000000-0000-0000-0000-000000000000"

    def __init__(  # noqa: PLR0913  # what tests replace is given one by one
        self,
        config: BackendConfig,
        settings: CinderSettings,
        host: ThisServer,
        caller: OpenStackCaller,
        account: OpenStackAccount,
        limits: CinderTimeouts = CinderTimeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        disks = guest_disks(Sysfs(settings.sys_root, settings.dev_root), config.name)
        notes = config.state_dir / "backends" / f"{config.name}.creations.json"
        volumes = CinderVolumes(caller, config.cluster, config.name, limits, clock)
        attachments = ServerAttachments(caller, volumes, disks, limits)
        takeover = ServerTakeover(caller, volumes, attachments, limits)
        super().__init__(config, host, volumes, attachments, takeover)
        creations = CreationNotes(notes, config.on_step)
        self._creation = CinderCreator(caller, volumes, creations, settings, limits)
        self._deletion = CinderDeleter(caller, volumes, limits)
        self._diagnosis = CinderDiagnosis(caller, account, host, volumes, limits)
        self._caller = caller
        self._noisy: set[str] = set()  # volumes in the first attachment since this host created them

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options."""
        options.check_options(spec)

    async def limits(self) -> Sequence[BackendLimit]:
        """Return the project's quota."""
        return await read_quota(self._caller)

    async def diagnose(self) -> Sequence[Finding]:
        """See `CinderDiagnosis`."""
        return await self._diagnosis.diagnose(self._examined())

    async def _create(self, spec: VolumeSpec, zone: str) -> Volume:
        return await self._creation.create(spec, zone)

    async def _delete(self, volume: Volume) -> None:
        await self._deletion.delete(volume)
        await self._creation.deleted(volume)

    def _one_of(self, found: Sequence[CinderVolume]) -> Volume | None:
        chosen = chosen_of(found)
        return chosen.volume if chosen else None

    async def _attach(self, volume: Volume, node: CloudNode) -> BlockDevice:
        if await self._attachments.disks.locate(volume) is None:
            self._noisy.discard(volume.volume_id)
            if await self._creation.before_attach(volume):
                self._noisy.add(volume.volume_id)
        source = await super()._attach(volume, node)
        await self._creation.after_attach(volume)
        return self._judged(volume, source)

    def locate(self, volume: Volume) -> BlockDevice | None:
        """Return the disk of a volume; reads only sysfs."""
        source = super().locate(volume)
        return self._judged(volume, source) if source else None

    def _judged(self, volume: Volume, source: BlockDevice) -> BlockDevice:
        """Return a disk with what is known of its volume: noise on it, a header that its encryption hides."""
        return replace(
            source,
            hidden_bytes=_LUKS_HEADER_BYTES if dict(volume.details).get("encrypted") else 0,
            may_hold_noise=volume.volume_id in self._noisy,
        )

    async def detach(self, volume: Volume) -> None:
        """Detach a volume and wait until its disk has gone and Nova does not list it any more."""
        self._noisy.discard(volume.volume_id)
        await super().detach(volume)
