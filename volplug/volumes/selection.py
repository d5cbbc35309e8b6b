"""Selection: which backend has the volume that a caller means."""

from __future__ import annotations

from volplug.errors import Conflict
from volplug.models import Volume
from volplug.volumes.catalog import Catalog
from volplug.volumes.node import LocalNode
from volplug.volumes.views import VolumeView


class Selection:
    """Finds the backend of a volume; asked under the volume's lock."""

    def __init__(self, node: LocalNode, catalog: Catalog) -> None:
        self._node = node
        self._catalog = catalog

    async def backend_of(self, name: str, meant: VolumeView | None = None) -> str:
        """Return the backend that has the volume, or the default one if none is known to.

        Args:
            name: Docker's name.
            meant: The volume that the caller has seen; None for any of this name.

        Raises:
            Conflict: If the name is that of another volume by now, or of one in another backend.
            VolplugError: If the backends cannot be asked.
        """
        node, entry = self._node, self._node.ledger.get(name)
        if entry is not None and entry.record is not None:
            if entry.is_busy:
                _check_is(meant, entry.record)
                return entry.backend
            if len(node.backends) == 1 and meant is None:
                return entry.backend
        if len(node.backends) == 1 and meant is None:
            return node.default_backend
        volume = await self._catalog.find(name)
        if volume is None:
            return node.default_backend
        _check_is(meant, volume)
        return volume.backend


def _check_is(meant: VolumeView | None, found: Volume) -> None:
    if meant is None or (meant.backend, meant.volume_id) == (found.backend, found.volume_id):
        return
    raise Conflict(
        f"the name is that of {found.backend} {found.volume_id}, not of {meant.backend} {meant.volume_id}",
        "Nothing was changed; read the volume again",
    )
