"""Identifies this host: its instance id, zone and region.

On Nitro the instance id is in the firmware, in DMI's board asset tag:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
The rest, and on Xen the id as well, comes from the instance metadata service, with a token (IMDSv2):
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from volplug.drivers.cloud.identity import CloudNode, ThisNode, ask_metadata_service, firmware_text
from volplug.drivers.ebs.settings import EbsSettings
from volplug.errors import ConfigurationError
from volplug.host.threads import Pool

_INSTANCE_ID: Final = re.compile(r"i-[0-9a-f]{8,}")
_TOKEN_TTL_S: Final = 60
# The service's answer to a container with a network of its own passes one hop too many and is dropped.
_UNANSWERED: Final = "On EC2, in a container without host networking, set HttpPutResponseHopLimit to 2"
_NOT_ON_EC2: Final = "Run volplug on an EC2 instance whose metadata service is enabled"
_DISABLED: Final = "Enable the service, or set region and availability_zone"


@dataclass(frozen=True, slots=True)
class Identity(CloudNode):
    """This host as EC2 knows it.

    Attributes:
        region: The region of its volumes.
    """

    region: str


class HostIdentity(ThisNode[Identity]):
    """Identifies this host.

    Args:
        settings: A region in them is used as it is; with a zone of new volumes in them, the instance's own
            zone may stay unknown.
        pool: Threads for requests to the metadata service.
    """

    def __init__(self, settings: EbsSettings, pool: Pool | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._pool = pool or Pool("ebs-identity", 2)

    async def _identify(self) -> Identity:
        return await self._pool.blocking(_identify, self._settings)

    async def region(self) -> str:
        """Return the region; if it is set, nothing else has to be known.

        Raises:
            ConfigurationError: If it is neither set nor known to the metadata service.
        """
        return self._settings.region or (await self.get()).region

    async def check_metadata(self) -> None:
        """Check that the metadata service answers; settings and firmware may know all that volplug needs.

        Raises:
            ConfigurationError: If it does not.
        """
        await self._pool.blocking(_Metadata(self._settings.imds_endpoint).read, "instance-id")


def _identify(settings: EbsSettings) -> Identity:
    metadata = _Metadata(settings.imds_endpoint)
    instance_id = _instance_id_of_firmware(settings) or metadata.read("instance-id")
    if _INSTANCE_ID.fullmatch(instance_id) is None:
        raise ConfigurationError(f"the instance metadata service calls this host {instance_id[:40]!r}")
    region = settings.region or metadata.read("placement/region")
    return Identity(instance_id, _zone(metadata, settings), region)


def _zone(metadata: _Metadata, settings: EbsSettings) -> str:
    try:
        return metadata.read("placement/availability-zone")
    except ConfigurationError:
        if not settings.availability_zone:
            raise
        return ""  # EC2 itself refuses to attach volumes of other zones


def _instance_id_of_firmware(settings: EbsSettings) -> str:
    text = firmware_text(settings.sys_root, "board_asset_tag")
    return text if _INSTANCE_ID.fullmatch(text) else ""


def _remedy(what: str, reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return _UNANSWERED
    return _NOT_ON_EC2 if what == "instance-id" else _DISABLED


class _Metadata:
    """A client of the metadata service, with one token for several requests."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = ""

    def read(self, what: str) -> str:
        try:
            if not self._token:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
                self._token = self._ask("PUT", "/latest/api/token", ttl)
            token = {"X-aws-ec2-metadata-token": self._token}
            return self._ask("GET", f"/latest/meta-data/{what}", token)
        except (OSError, ValueError) as error:  # URLError and time-outs are OSErrors
            reason = getattr(error, "reason", error)  # what an URLError is about
            raise ConfigurationError(
                f"the instance metadata service at {self._endpoint} does not tell this host's {what}: "
                f"{getattr(reason, 'strerror', None) or reason}",
                _remedy(what, reason),
            ) from error

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        response = ask_metadata_service(f"{self._endpoint}{path}", method, headers)
        text = response.decode("ascii", "replace").strip()
        if not text:
            raise ValueError("an empty answer")
        return text
