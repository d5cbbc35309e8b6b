"""Numbered records that a program writes into a volume: acknowledged once they are on the disk."""

import os
from pathlib import Path


class Records:
    """Writes records of some KiB into files of their own, each fsynced before it counts.

    Attributes:
        directory: Where the volume is seen: by the host, from which a trial release takes it for a moment, or
            by a container.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.acknowledged: list[int] = []

    def write(self, number: int = 1) -> None:
        """Write some more records; an OSError means that the last one is not acknowledged."""
        for _ in range(number):
            self._write(len(self.acknowledged))

    def write_until_error(self) -> OSError:
        """Write until the filesystem says no, and return how."""
        try:
            while True:
                self.write()
        except OSError as error:
            return error

    def check(self) -> None:
        """Every acknowledged record is there and whole."""
        found = [number for number in self.acknowledged if self._read(number) == _content(number)]
        assert found == self.acknowledged

    def _write(self, number: int) -> None:
        place = self._place(number)
        place.parent.mkdir(exist_ok=True)
        with place.open("w") as file:
            file.write(_content(number))
            file.flush()
            os.fsync(file.fileno())
        for directory in (place.parent, self.directory):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self.acknowledged.append(number)

    def _read(self, number: int) -> str | None:
        try:
            return self._place(number).read_text()
        except OSError:
            return None

    def _place(self, number: int) -> Path:
        return self.directory / str(number) / "record"


def _content(number: int) -> str:
    return f"{number}\n" * 1000
