"""Plugs volumes of the simulated EC2 into guests, as NVMe disks with the serials of EBS."""

from collections.abc import Iterable
from pathlib import Path

from tests.vm.guest import Guest


class QemuHypervisor:
    """See `tests.ec2sim.Hypervisor`; instances are guests.

    Attributes:
        directory: has the volumes' images.
    """

    def __init__(self, directory: Path, guests: Iterable[Guest]) -> None:
        self.directory = directory
        self._guests = {guest.instance_id: guest for guest in guests}

    def provision(self, volume_id: str, size_bytes: int) -> None:
        """Make a blank image."""
        with self.image(volume_id).open("xb") as file:
            file.truncate(size_bytes)

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Plug the disk in; the requested device name is not visible in the guest, as on EC2."""
        del device
        self._guests[instance_id].plug(serial_of(volume_id), self.image(volume_id))

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Unplug the disk unless the guest uses it."""
        guest = self._guests[instance_id]
        if guest.is_held(serial_of(volume_id)):
            return False
        guest.unplug(serial_of(volume_id))
        return True

    def discard(self, volume_id: str) -> None:
        """Remove the image."""
        self.image(volume_id).unlink()

    def image(self, volume_id: str) -> Path:
        """Where a volume's data is."""
        return self.directory / f"{volume_id}.img"


def serial_of(volume_id: str) -> str:
    """The serial that EBS gives a volume's disk."""
    return volume_id.replace("-", "")
