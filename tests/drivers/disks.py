"""A small disk for images, and what lies on it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A mounted disk of its own, small enough to be filled."""

    directory: Path

    @property
    def free_bytes(self) -> int:
        space = os.statvfs(self.directory)
        return space.f_bavail * space.f_frsize

    def fill(self) -> None:
        """Leave no free block."""
        with (self.directory / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free_bytes)
        assert self.free_bytes == 0

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())
