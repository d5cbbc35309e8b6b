"""Reads a device with O_DIRECT, past the page cache, so that what is judged is what is stored."""

from __future__ import annotations

import mmap
import os
from types import TracebackType
from typing import Final, Self

from volplug.errors import HostError
from volplug.host.devices import device_error, open_size_bytes

PAGE_BYTES: Final = 4096
_CHUNK_BYTES: Final = 1024 * 1024


class DirectReader:
    """Reads an open device. Offsets must be multiples of 4096; reads end at the device's end.

    Raises:
        HostError: On opening, if the device cannot be opened or has no size.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        try:
            self._descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as exc:
            raise device_error(device, exc) from exc
        try:
            self.size_bytes = _known_size_bytes(device, self._descriptor)
            self._chunk = mmap.mmap(-1, _CHUNK_BYTES)  # O_DIRECT wants page-aligned memory
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chunk.close()
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer only where the device ends.

        Raises:
            HostError: With the kernel's reason, if any part cannot be read.
        """
        end = min(offset + length, self.size_bytes)
        parts = []
        while offset < end:
            part = self._read_once(offset, min(end - offset, _CHUNK_BYTES))
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def first_data(self, offset: int, length: int) -> int | None:
        """Return the offset of the first of these bytes that is not zero, or None; errors as in `read`."""
        end = min(offset + length, self.size_bytes)
        while offset < end:
            part = self._read_once(offset, min(end - offset, _CHUNK_BYTES))
            if part != bytes(len(part)):
                return offset + len(part) - len(part.lstrip(b"\0"))
            offset += len(part)
        return None

    def _read_once(self, offset: int, length: int) -> bytes:
        try:
            with memoryview(self._chunk) as whole, whole[:length] as window:
                count = os.preadv(self._descriptor, [window], offset)
        except OSError as exc:
            raise HostError(f"reading {self._device} at byte {offset} failed: {exc.strerror}") from exc
        if count == 0:
            raise HostError(f"reading {self._device} at byte {offset} failed: it ends there")
        return self._chunk[:count]


def _known_size_bytes(device: str, descriptor: int) -> int:
    try:
        found = open_size_bytes(descriptor)
    except OSError as exc:
        raise device_error(device, exc) from exc
    if found == 0:
        raise HostError(f"the device {device} has size 0")
    return found
