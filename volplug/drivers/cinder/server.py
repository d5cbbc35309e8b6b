"""Identifies this host: the id that Nova knows it by, and its availability zone.

The id is a setting, or else in the firmware, on the config drive, or known to the metadata service:
https://docs.openstack.org/nova/latest/user/metadata.html
All but Nova may be wrong: firmware shows a UUID in either byte order, and a config drive may be that of the
server that an image was made from. So Nova decides, which knows this project's servers only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Final
from uuid import UUID

from volplug.drivers.cinder.openstack import NOVA, OpenStackCaller, shown
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cloud.identity import CloudNode, ThisNode, ask_metadata_service, firmware_text
from volplug.errors import ConfigurationError
from volplug.host.threads import Pool

_METADATA: Final = "openstack/latest/meta_data.json"
_LARGEST_METADATA: Final = 1 << 20
_REMEDY: Final = "Run volplug on a server of this project, or set server_id"


class ThisServer(ThisNode[CloudNode]):
    """Identifies this host.

    Args:
        settings: Where to search.
        caller: Calls Nova.
        pool: Threads for the search.
    """

    def __init__(self, settings: CinderSettings, caller: OpenStackCaller, pool: Pool | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._caller = caller
        self._pool = pool or Pool("cinder-server", 2)

    async def _identify(self) -> CloudNode:
        tried: list[str] = []
        for source in (_of_settings,) if self._settings.server_id else _SOURCES.values():
            for server_id in await self._pool.blocking(source, self._settings):
                path = f"/servers/{server_id}"
                server = None if server_id in tried else await shown(self._caller, NOVA, path, "server")
                if server is not None:
                    return CloudNode(str(server["id"]), str(server.get("OS-EXT-AZ:availability_zone") or ""))
                tried.append(server_id)
        if not tried:
            raise ConfigurationError("this host does not know which server of Nova it is", _REMEDY)
        asked = " or ".join(dict.fromkeys(tried))
        raise ConfigurationError(f"Nova has no server {asked} in this project", _REMEDY)

    async def sources(self) -> list[str]:
        """Return what names a server that this host may be."""
        places = {"the setting server_id": _of_settings, **_SOURCES}
        return [
            name for name, source in places.items() if any(await self._pool.blocking(source, self._settings))
        ]


# The ids that each source has, most often one. They block.


def _of_settings(settings: CinderSettings) -> list[str]:
    return [settings.server_id]


def _of_firmware(settings: CinderSettings) -> list[str]:
    try:
        found = UUID(firmware_text(settings.sys_root, "product_uuid"))
    except ValueError:
        return []
    return [str(found), str(UUID(bytes_le=found.bytes))]


def _of_config_drive(settings: CinderSettings) -> list[str]:
    return _uuid_in(lambda: (settings.config_drive / _METADATA).read_bytes()[:_LARGEST_METADATA])


def _of_metadata_service(settings: CinderSettings) -> list[str]:
    return _uuid_in(lambda: ask_metadata_service(f"{settings.metadata_endpoint.rstrip('/')}/{_METADATA}"))


def _uuid_in(read: Callable[[], bytes]) -> list[str]:
    try:
        return [str(UUID(json.loads(read())["uuid"]))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # none there, or not of Nova


_SOURCES: Final = MappingProxyType(
    {
        "the firmware": _of_firmware,
        "a config drive": _of_config_drive,
        "the metadata service": _of_metadata_service,
    }
)
