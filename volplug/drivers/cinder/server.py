"""Identifies this host: the id that Nova knows it by, and its availability zone.

The id is a setting, or else in the firmware, on the config drive, or known to the metadata service:
https://docs.openstack.org/nova/latest/user/metadata.html
All but Nova may be wrong: firmware shows a UUID in either byte order, and a config drive may be that of the
server that an image was made from. So Nova decides, which knows this project's servers only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import NOVA, Call, OpenStackCaller
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
        for source in self._sources():
            for server_id in await self._pool.blocking(_ids_of, source, self._settings):
                if server_id in tried:
                    continue
                tried.append(server_id)
                if (found := await self._ask(server_id)) is not None:
                    return found
        if not tried:
            raise ConfigurationError("this host does not know which server of Nova it is", _REMEDY)
        raise ConfigurationError(f"Nova has no server {' or '.join(tried)} in this project", _REMEDY)

    def _sources(self) -> tuple[_Source, ...]:
        if self._settings.server_id:
            return (_of_settings,)
        return (_of_firmware, _of_config_drive, _of_metadata_service)

    async def _ask(self, server_id: str) -> CloudNode | None:
        try:
            answer = await self._caller.call(Call(NOVA, "GET", f"/servers/{server_id}", expects="server"))
        except OpenStackRefused as refused:
            if refused.is_missing_server:
                return None
            raise translated(refused) from refused
        server = answer["server"]
        return CloudNode(str(server["id"]), str(server.get("OS-EXT-AZ:availability_zone") or ""))


def _ids_of(source: _Source, settings: CinderSettings) -> list[str]:
    return list(source(settings))


_Source = Callable[[CinderSettings], Iterator[str]]


def _of_settings(settings: CinderSettings) -> Iterator[str]:
    yield settings.server_id


def _of_firmware(settings: CinderSettings) -> Iterator[str]:
    try:
        shown = UUID(firmware_text(settings.sys_root, "product_uuid"))
    except ValueError:
        return
    yield str(shown)
    yield str(UUID(bytes_le=shown.bytes))


def _of_config_drive(settings: CinderSettings) -> Iterator[str]:
    try:
        text = (settings.config_drive / _METADATA).read_bytes()[:_LARGEST_METADATA]
    except OSError:
        return
    yield from _uuid_in(text)


def _of_metadata_service(settings: CinderSettings) -> Iterator[str]:
    try:
        text = ask_metadata_service(f"{settings.metadata_endpoint.rstrip('/')}/{_METADATA}")
    except (OSError, ValueError):
        return
    yield from _uuid_in(text)


def _uuid_in(text: bytes) -> Iterator[str]:
    try:
        metadata: Any = json.loads(text)
        yield str(UUID(metadata["uuid"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return
