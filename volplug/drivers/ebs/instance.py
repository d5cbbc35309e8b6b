"""Identifies this host: its instance id, zone and region.

On Nitro the instance id is in the firmware, in DMI's board asset tag:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
The rest, and on Xen the id as well, comes from the instance metadata service, with a token (IMDSv2):
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Final

from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.timeouts import METADATA_TIMEOUT_S
from volplug.errors import ConfigurationError
from volplug.host.threads import Pool

_INSTANCE_ID: Final = re.compile(r"i-[0-9a-f]{8,}")
_ASSET_TAG: Final = "devices/virtual/dmi/id/board_asset_tag"
_TOKEN_TTL_S: Final = 60
# The service's answer to a container with a network of its own passes one hop too many and is dropped.
_UNANSWERED: Final = "On EC2, in a container without host networking, set HttpPutResponseHopLimit to 2"
_NOT_ON_EC2: Final = "Run volplug on an EC2 instance whose metadata service is enabled"
_DISABLED: Final = "Enable the service, or set region and availability_zone"


@dataclass(frozen=True, slots=True)
class Identity:
    """This host as EC2 knows it.

    Attributes:
        instance_id: EC2's id of it.
        zone: Its availability zone, which may differ from that of new volumes; "" if unknown.
        region: The region of its volumes.
    """

    instance_id: str
    zone: str
    region: str


class HostIdentity:
    """Identifies this host, once; after a failure, the next call tries again.

    Args:
        settings: A region in them is used as it is; with a zone of new volumes in them, the instance's own
            zone may stay unknown.
        pool: Threads for requests to the metadata service.
    """

    def __init__(self, settings: EbsSettings, pool: Pool | None = None) -> None:
        self._settings = settings
        self._pool = pool or Pool("ebs-identity", 2)
        self._asking = asyncio.Lock()
        self.known: Identity | None = None

    async def get(self) -> Identity:
        """Return this host's identity.

        Raises:
            ConfigurationError: If it is not on EC2, or the metadata service does not answer; with a remedy.
        """
        async with self._asking:
            if self.known is None:
                self.known = await self._pool.blocking(_identify, self._settings)
            return self.known

    async def region(self) -> str:
        """Return the region; if it is set, nothing else has to be known.

        Raises:
            ConfigurationError: If it is neither set nor known to the metadata service.
        """
        return self._settings.region or (await self.get()).region


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
    try:
        text = (settings.sys_root / _ASSET_TAG).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
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
        request = urllib.request.Request(f"{self._endpoint}{path}", method=method, headers=headers)  # noqa: S310  # the endpoint is a setting
        # Never through a proxy: the service's responses hold credentials.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=METADATA_TIMEOUT_S) as answer:
            text = answer.read(4096).decode("ascii", "replace").strip()
            if not isinstance(text, str) or not text:
                raise ValueError("an empty answer")
            return text
