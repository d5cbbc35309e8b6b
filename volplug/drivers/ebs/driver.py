"""The EBS driver: volumes of one cluster in one region, attached to the EC2 instance that this host is.

A volume's description is in its tags and its attachment. In memory are only the volumes that this process
created and deleted within the last minute, which reads of EC2 may not show yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from volplug.drivers.base import BackendConfig
from volplug.drivers.cloud.driver import CloudDriver
from volplug.drivers.ebs import options
from volplug.drivers.ebs.attachments import InstanceAttachments
from volplug.drivers.ebs.creation import VolumeCreator
from volplug.drivers.ebs.deletion import VolumeDeleter
from volplug.drivers.ebs.diagnosis import EbsDiagnosis, Ec2Account
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.ec2 import SDK, Ec2
from volplug.drivers.ebs.instance import HostIdentity, Identity
from volplug.drivers.ebs.settings import EbsSettings, load_settings
from volplug.drivers.ebs.takeover import Takeover
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume, the_one
from volplug.findings import Finding
from volplug.host.sysfs import Sysfs
from volplug.models import Volume, VolumeSpec


def build(config: BackendConfig) -> EbsDriver:
    """Build the driver of one configured backend.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    settings = load_settings(config)
    host = HostIdentity(settings)
    limits = Ec2Timeouts(proof_s=settings.proof_s, poll_first_s=settings.poll_s)
    ec2 = Ec2(settings, host, on_try=config.on_try)
    return EbsDriver(config, settings, host, ec2, ec2, limits)


class EbsDriver(CloudDriver[Ec2Volume, Identity]):
    """See `CloudDriver`."""

    _INFO = options.INFO
    _SDK = SDK
    _NO_VOLUME = "vol-00000000000000000"

    def __init__(  # noqa: PLR0913  # what tests replace is given one by one
        self,
        config: BackendConfig,
        settings: EbsSettings,
        host: HostIdentity,
        caller: Caller,
        account: Ec2Account,
        limits: Ec2Timeouts = Ec2Timeouts(),  # noqa: B008  # frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        sysfs = Sysfs(settings.sys_root, settings.dev_root)
        notes = config.state_dir / "backends" / f"{config.name}.disks.json"
        volumes = ClusterVolumes(caller, config.cluster, config.name, limits, clock)
        disks = Disks(sysfs, settings.nvme_model, notes, config.name, clock)
        attachments = InstanceAttachments(caller, volumes, disks, limits)
        takeover = Takeover(caller, volumes, attachments, limits, may_force=settings.force_detach)
        super().__init__(config, host, volumes, attachments, takeover)
        self._diagnosis = EbsDiagnosis(caller, account, host, volumes, settings, limits)
        self._creation = VolumeCreator(caller, volumes, settings, limits, clock)
        self._deletion = VolumeDeleter(caller, volumes, limits)

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check the driver's options, and the size against the type's limits."""
        options.check_options(spec)

    async def _create(self, spec: VolumeSpec, zone: str) -> Volume:
        return await self._creation.create(spec, zone)

    async def _delete(self, volume: Volume) -> None:
        await self._deletion.delete(volume)
        self._creation.deleted(volume)

    def _one_of(self, found: Sequence[Ec2Volume]) -> Volume | None:
        return the_one(found)

    async def diagnose(self) -> Sequence[Finding]:
        """See `EbsDiagnosis`."""
        return await self._diagnosis.diagnose(self._examined())

    async def _listed_by_id(self, name: str) -> Volume | None:
        return await super()._listed_by_id(name) if name.startswith("vol-") else None
