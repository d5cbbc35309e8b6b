"""This machine with loop devices."""

import json
from pathlib import Path

from tests.lab import loops
from tests.walks.machine_ground import MachineGround
from volplug.drivers.loop.driver import LoopDriver


class LoopGround(MachineGround):
    """Images below the directory."""

    backend = "loop"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.driver = LoopDriver("loop", "host1", directory / "images", 1.0)

    def lose_power(self) -> None:
        super().lose_power()
        loops.detach_below(self._directory)

    def left(self) -> list[str]:
        return super().left() + [f"{device} is attached" for device in loops.attached_below(self._directory)]

    def volumes(self) -> list[str]:
        return sorted(path.stem for path in (self._directory / "images").glob("*.img"))

    def attached_twice(self) -> list[str]:
        """Images with more than one loop device, which would corrupt them."""
        images = [device.file for device in loops.attached_below(self._directory)]
        return [str(image) for image in set(images) if images.count(image) > 1]

    def volume_id_of(self, name: str) -> str:
        record = json.loads((self._directory / "images" / f"{name}.json").read_text())
        return str(record["volume"]["volume_id"])
