"""What makes attached volumes appear on instances."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tests.ec2sim.views import InstanceView, Views


class Hypervisor(Protocol):
    """Makes attached volumes appear on instances. Calls block; each is made in a thread.

    Calls for one volume come one after the other, calls for different volumes at the same time.
    """

    def provision(self, volume_id: str, size_bytes: int) -> None:
        """Take note of a new, blank volume."""

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Make a volume appear on an instance."""

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Take a volume from an instance; False: the guest uses it, so EC2 says busy."""

    def discard(self, volume_id: str) -> None:
        """Forget a deleted volume."""


@runtime_checkable
class ShowsInstances(Protocol):
    """A hypervisor whose instances have a place of their own for /sys and /dev."""

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        """Return what the instance sees of itself."""

    def close(self) -> None:
        """Take everything away again."""


@runtime_checkable
class Pulls(Protocol):
    """A hypervisor that can take a device from a guest that uses it, as DetachVolume with Force does."""

    def pull(self, instance_id: str, volume_id: str) -> None:
        """Take the device away, whoever uses it."""


@dataclass(frozen=True, slots=True)
class Plugged:
    """A volume on an instance."""

    instance_id: str
    device: str


class MemoryHypervisor:
    """Plugs volumes into nothing, for tests without devices.

    With a directory, instances see their volumes as files in their views: dev nodes are plain files then.
    """

    def __init__(self, directory: str = "") -> None:
        self._views = Views(directory) if directory else None
        self._sizes: dict[str, int] = {}
        self._plugged: dict[str, Plugged] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def provision(self, volume_id: str, size_bytes: int) -> None:
        """Take note of a new volume."""
        with self._lock:
            self._sizes[volume_id] = size_bytes

    def plug(self, instance_id: str, volume_id: str, device: str) -> None:
        """Make a volume appear."""
        with self._lock:
            if volume_id in self._plugged:
                raise RuntimeError(f"{volume_id} is plugged already: {self._plugged[volume_id]}")
            self._plugged[volume_id] = Plugged(instance_id, device)
            if self._views is not None:
                self._views.of(instance_id).show(volume_id, device, self._sizes[volume_id], None)

    def unplug(self, instance_id: str, volume_id: str) -> bool:
        """Take a volume away, unless it is used."""
        with self._lock:
            if volume_id in self._used:
                return False
            self._take(instance_id, volume_id)
            return True

    def discard(self, volume_id: str) -> None:
        """Forget a volume."""
        with self._lock:
            del self._sizes[volume_id]

    def pull(self, instance_id: str, volume_id: str) -> None:
        """Take a volume away, even if it is used."""
        with self._lock:
            self._used.discard(volume_id)
            self._take(instance_id, volume_id)

    def power_on(self, instance_id: str, kind: str) -> InstanceView:
        """Return what the instance sees of itself."""
        if self._views is None:
            return InstanceView("", "")
        return self._views.add(instance_id, kind)

    def close(self) -> None:
        """Take the views away again."""
        if self._views is not None:
            self._views.close()

    def use(self, volume_id: str) -> None:
        """Let the guest use a volume, as a mount would."""
        with self._lock:
            self._used.add(volume_id)

    def end_use(self, volume_id: str) -> None:
        """Let the guest stop using a volume."""
        with self._lock:
            self._used.discard(volume_id)

    def plugged(self) -> dict[str, Plugged]:
        """Return where volumes are."""
        with self._lock:
            return dict(self._plugged)

    def _take(self, instance_id: str, volume_id: str) -> None:
        plugged = self._plugged[volume_id]
        if plugged.instance_id != instance_id:
            raise RuntimeError(f"{volume_id} is on {plugged.instance_id}, not on {instance_id}")
        del self._plugged[volume_id]
        if self._views is not None:
            self._views.of(instance_id).hide(volume_id)
