"""Volumes that cannot be served: every call says why, and Get stays without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from volplug.errors import VolplugError
from volplug.volumes.ledger import EngineIdentity
from volplug.volumes.mounting import Client, MountAnswer
from volplug.volumes.views import VolumeView


class RefusingVolumes:
    """Stands in for the core when nothing may be served."""

    def __init__(self, error: VolplugError) -> None:
        self._error = error

    def _refuse(self) -> NoReturn:
        raise type(self._error)(self._error.cause, self._error.remedy)

    async def create(self, name: str, options: dict[str, str]) -> None:
        """Refuse."""
        self._refuse()

    async def remove(self, name: str) -> None:
        """Refuse."""
        self._refuse()

    async def mount(self, name: str, mount_id: str, client: Client) -> MountAnswer:
        """Refuse."""
        self._refuse()

    async def unmount(self, name: str, mount_id: str) -> None:
        """Refuse."""
        self._refuse()

    async def path(self, name: str) -> str:
        """Refuse."""
        self._refuse()

    async def get(self, name: str) -> VolumeView:
        """Refuse; the handler closes the connection, so that Docker forgets nothing."""
        self._refuse()

    async def list(self) -> Sequence[VolumeView]:
        """Refuse; Docker shows what it remembers."""
        self._refuse()

    async def engine_seen(self, engine: EngineIdentity) -> None:
        """Nothing depends on it."""
