"""The servers of a lab, as guests see themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openstack.compute.v2.volume_attachment import VolumeAttachment
from openstack.connection import Connection

from tests.lab.guest_disks import GuestDisks
from tests.lab.openstack.accounts import FLAVOR, IMAGE
from tests.lab.openstack.storage import Storage
from tests.lab.waiting import wait_until

_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Server:
    """A server.

    Attributes:
        id: Its id at Nova, which is also its product_uuid.
        name: Its name.
        node: Its host.
        sys_root: Its /sys.
        dev_root: Its /dev.
        directory: Of both.
    """

    id: str
    name: str
    node: str
    sys_root: str
    dev_root: str
    directory: Path

    def disks(self) -> dict[str, str]:
        """The volumes that it sees: id to the path of the device node."""
        links = sorted((self.directory / "volumes").iterdir())
        return {link.name: f"{self.dev_root}/{link.readlink()}" for link in links}


class Servers:
    """The servers of demo's project.

    Args:
        cloud: The connection of an admin in this project.
        storage: Its volumes.
        guests: The directory of all guests.
    """

    def __init__(self, cloud: Connection, storage: Storage, guests: Path) -> None:
        self._cloud = cloud
        self._storage = storage
        self._guests = guests
        self._found: dict[str, str] = {}

    def create(self, name: str, *, node: str, bus: str = "virtio") -> Server:
        """Create a server and wait until it is active.

        Args:
            name: Its name.
            node: Its host.
            bus: "virtio", whose disks have serials of at most 20 characters, or "scsi" (virtio-scsi).
        """
        if not self._found:
            flavor = self._cloud.compute.find_flavor(FLAVOR, ignore_missing=False)
            image = self._cloud.image.find_image(IMAGE, ignore_missing=False)
            self._found = {"flavor_id": flavor.id, "image_id": image.id}
        made = self._cloud.compute.create_server(
            name=name, host=node, networks="none", metadata={"disk_bus": bus}, **self._found
        )
        self._cloud.compute.wait_for_server(made, interval=_POLL_S, wait=_TIMEOUT_S)
        return self._described(made.id, name, node)

    def delete(self, server: Server) -> None:
        """Delete a server and wait until it has gone; its volumes become available."""
        self._cloud.compute.delete_server(server.id)
        wait_until(lambda: not self._exists(server), _TIMEOUT_S, f"server {server.name} has gone")

    def stop(self, server: Server) -> None:
        """Stop a server and wait until it is SHUTOFF."""
        self._cloud.compute.stop_server(server.id)
        self.await_status(server, "SHUTOFF")

    def start(self, server: Server) -> None:
        """Start a server that is stopped and wait until it is ACTIVE."""
        self._cloud.compute.start_server(server.id)
        self.await_status(server, "ACTIVE")

    def status(self, server: Server) -> str:
        """Return the status that Nova reports."""
        return str(self._cloud.compute.get_server(server.id).status)

    def set_status(self, server: Server, status: str) -> None:
        """Set the status to ACTIVE or ERROR, as an operator does; nothing else changes."""
        self._cloud.compute.reset_server_state(server.id, status.lower())
        self.await_status(server, status)

    def await_status(self, server: Server, status: str) -> None:
        """Wait for a status."""
        wait_until(lambda: self.status(server) == status, _TIMEOUT_S, f"server {server.name} is {status}")

    def attach(self, server: Server, volume_id: str) -> None:
        """Attach a volume and wait until it is in use."""
        self._cloud.compute.create_volume_attachment(server.id, volume_id=volume_id)
        self._storage.await_status(volume_id, "in-use")

    def detach(self, server: Server, volume_id: str) -> None:
        """Detach a volume and wait until Nova no longer lists it, which is after it is available."""
        self._cloud.compute.delete_volume_attachment(server.id, volume_id)
        self._storage.await_status(volume_id, "available")
        wait_until(lambda: volume_id not in self.volumes(server), _TIMEOUT_S, f"{volume_id} is free")

    def volumes(self, server: Server) -> list[str]:
        """Return the ids of the volumes that Nova lists as attached."""
        return [each.volume_id for each in self._cloud.compute.volume_attachments(server.id)]

    def detach_all(self) -> None:
        """Detach all volumes from all servers; the compute services of their hosts have to be up."""
        for each in self._attachments():
            self._cloud.compute.delete_volume_attachment(each.server_id, each.volume_id)
        wait_until(lambda: not self._attachments(), _TIMEOUT_S, "no server has volumes")

    def _attachments(self) -> list[VolumeAttachment]:
        compute = self._cloud.compute
        return [each for server in compute.servers() for each in compute.volume_attachments(server.id)]

    def _exists(self, server: Server) -> bool:
        return self._cloud.compute.find_server(server.id) is not None

    def _described(self, server_id: str, name: str, node: str) -> Server:
        directory = self._guests / node / server_id
        disks = GuestDisks(str(directory))
        return Server(server_id, name, node, disks.sys_root, disks.dev_root, directory)
