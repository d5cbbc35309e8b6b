"""Copies of volumes as streams of bytes: a capability of drivers whose volumes live on one host."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from volplug.models import Volume


@runtime_checkable
class SendsCopies(Protocol):
    """A capability of drivers that can send a volume to another host, and receive it there.

    One stream after the other brings the copy up to date: `send_to` is told what `received` there says. A
    stream may be cut anywhere; then the same is done again, and what had arrived is not sent twice where the
    backend can continue. The copy is no volume before `adopt`.
    """

    async def received(self, name: str) -> str:
        """Return what this host has of the copy of a volume, in words for `send_to`; empty for nothing."""
        ...

    async def send_to(self, stream: int, volume: Volume, received: str) -> None:
        """Write to a descriptor what the copy lacks of the volume as it is now, or the rest of a cut stream.

        Raises:
            VolumeNotFound: If the volume does not exist.
            VolplugError: If it could not all be written, such as when the reader has gone.
        """
        ...

    async def receive(self, stream: int, name: str) -> None:
        """Read a stream from a descriptor into the copy of a volume.

        Raises:
            VolumeExists: If there is a volume of this name, or anything else that is no copy.
            UnexpectedState: If the stream is cut or damaged, or does not continue the copy.
        """
        ...

    async def adopt(self, name: str) -> Volume:
        """Make the copy a volume of this host; twice is once.

        Raises:
            VolumeNotFound: If there is no whole copy.
        """
        ...
