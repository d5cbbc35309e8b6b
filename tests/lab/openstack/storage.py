"""The volumes of a lab, as an operator sees and changes them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from openstack.block_storage.v3.volume import Volume
from openstack.connection import Connection

from tests.lab.waiting import wait_until

_TIMEOUT_S: Final = 60.0
_DELETABLE: Final = ("available", "error")
# Rows as Cinder itself writes them: thousands of creations would take an hour.
_COPY: Final = """
USE cinder;
CREATE TEMPORARY TABLE copies AS SELECT volumes.* FROM volumes, seq_1_to_{number} WHERE id = '{volume_id}';
UPDATE copies SET id = UUID(), display_name = 'copy', project_id = '{project}';
INSERT INTO volumes SELECT * FROM copies;
"""
_DESCRIBE: Final = """
INSERT INTO volume_metadata (created_at, deleted, volume_id, `key`, value)
SELECT UTC_TIMESTAMP(), 0, id, '{key}', '{value}' FROM copies;
"""
_REMOVE: Final = """
USE cinder;
DELETE FROM volume_metadata WHERE volume_id IN (SELECT id FROM volumes WHERE display_name = 'copy');
DELETE FROM volumes WHERE display_name = 'copy';
"""


class Storage:
    """The volumes and snapshots of demo's project, and its quota.

    Args:
        cloud: The connection of an admin in this project.
        sql: Executes statements at the database.
    """

    def __init__(self, cloud: Connection, sql: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._sql = sql
        self._calls: Any = cloud.block_storage  # its type has the calls of version 2, too

    def create(self, name: str, size_gb: int = 1) -> str:
        """Create a volume, wait until it is available, and return its id."""
        volume_id: str = self._calls.create_volume(name=name, size=size_gb).id
        self.await_status(volume_id, "available")
        return volume_id

    def volumes(self) -> list[Volume]:
        """Return all volumes as Cinder has them, with their attachments."""
        return list(self._calls.volumes())

    def await_status(self, volume_id: str, status: str) -> None:
        """Wait until a volume has a status."""
        get = self._calls.get_volume
        wait_until(lambda: get(volume_id).status == status, _TIMEOUT_S, f"volume {volume_id} is {status}")

    def set_status(self, volume_id: str, status: str) -> None:
        """Set a volume's status, as an operator does; nothing else changes."""
        self._calls.reset_volume_status(volume_id, status=status)

    def make_bootable(self, volume_id: str) -> None:
        """Mark a volume as bootable, as one that is made of an image."""
        self._calls.set_volume_bootable_status(volume_id, True)

    def set_quota(self, **limits: int) -> None:
        """Set limits of the project, such as volumes=2, snapshots=1, gigabytes=5."""
        self._calls.update_quota_set(self._project(), **limits)

    def end_quota(self) -> None:
        """Restore Cinder's default limits."""
        self._calls.revert_quota_set(self._project())

    @contextmanager
    def copies(
        self, volume_id: str, number: int, metadata: Mapping[str, str], *, project: str = ""
    ) -> Iterator[None]:
        """Have copies of a volume with other metadata, in this project or another one, in a `with` block."""
        copy = _COPY.format(number=number, volume_id=volume_id, project=project or self._project())
        described = [_DESCRIBE.format(key=key, value=value) for key, value in metadata.items()]
        self._sql("".join([copy, *described]))
        try:
            yield
        finally:
            self._sql(_REMOVE)

    def delete_all(self) -> None:
        """Delete all snapshots and volumes, in any state."""
        for snapshot in self._calls.snapshots():
            self._calls.delete_snapshot(snapshot.id, force=True)
        wait_until(lambda: not list(self._calls.snapshots()), _TIMEOUT_S, "all snapshots have gone")
        for volume in self.volumes():
            if volume.status not in _DELETABLE:
                self._calls.reset_volume_status(volume.id, status="available", attach_status="detached")
            self._calls.delete_volume(volume.id)
        wait_until(lambda: not self.volumes(), _TIMEOUT_S, "all volumes have gone")

    def _project(self) -> str:
        return str(self._cloud.current_project_id)
