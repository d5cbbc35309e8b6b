"""The other way to do what volplug does: the minimum of calls of the SDK."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from openstack.connection import Connection
from openstack.exceptions import NotFoundException

from benchmarks import kernel
from benchmarks.cinder.testbed import link_of
from benchmarks.client import CallError
from benchmarks.clouds import spin_until
from tests.lab.openstack.servers import Server

# The pause between polls of both ways: that of production, half a second and more, would hide all else.
POLL_S: Final = 0.02


class BySdk:
    """Bare calls of the SDK and of the kernel, on a server of their own.

    Args:
        cloud: The SDK's connection.
        server: Where volumes are attached.
        targets: Where to mount.
        poll_s: The pause between two polls.
    """

    def __init__(self, cloud: Connection, server: Server, targets: Path, poll_s: float = POLL_S) -> None:
        self._storage: Any = cloud.block_storage  # its type has the calls of version 2, too
        self._compute = cloud.compute
        self._server = server
        self._targets = targets
        self._poll_s = poll_s
        self._attached: dict[str, str] = {}

    def create(self, name: str) -> None:
        """See `Way`: a search for the name, the creation, polls until it is available."""
        if self._ids(name):
            raise CallError(f"{name} exists")
        made = self._storage.create_volume(name=name, size=1, metadata={"volplug:name": name}).id
        self._poll(lambda: self._status(made) == "available", f"{name} is available")

    def mount(self, name: str) -> None:
        """See `Way`: a search, the attach, the disk, polls until Cinder says in-use, mount."""
        (volume_id,) = self._ids(name)
        self._attached[name] = volume_id
        self._compute.create_volume_attachment(self._server.id, volume_id=volume_id)
        spin_until(link_of(self._server, volume_id).is_symlink, f"{name} is there")
        self._poll(lambda: self._status(volume_id) == "in-use", f"{name} is in use")
        target = self._targets / name
        target.mkdir(parents=True, exist_ok=True)
        kernel.mount(f"{self._server.dev_root}/{link_of(self._server, volume_id).readlink()}", target)

    def unmount(self, name: str) -> None:
        """See `Way`."""
        kernel.unmount(self._targets / name)

    def wait_detached(self, name: str) -> None:
        """See `Way`: the detach, the disk; the volume's id is known."""
        volume_id = self._attached.pop(name)
        self._compute.delete_volume_attachment(self._server.id, volume_id)
        spin_until(lambda: not link_of(self._server, volume_id).is_symlink(), f"{name} has gone")

    def remove(self, name: str) -> None:
        """See `Way`: a search, the deletion, polls until there is no such volume."""
        (volume_id,) = self._ids(name)
        self._storage.delete_volume(volume_id)
        self._poll(partial(self._is_gone, volume_id), f"{name} is deleted")

    def mount_all(self, names: Sequence[str]) -> None:
        """See `Way`: a thread for each."""
        with ThreadPoolExecutor(len(names)) as threads:
            list(threads.map(self.mount, names))

    def get(self, name: str) -> None:
        """Search for a volume by its name."""
        self._ids(name)

    def await_free(self) -> None:
        """Poll until Nova no longer lists what was detached, as volplug does after its answer."""

        def is_gone() -> bool:
            return not list(self._compute.volume_attachments(self._server.id))

        self._poll(is_gone, "all volumes are free")

    def _ids(self, name: str) -> list[str]:
        return [str(each.id) for each in self._storage.volumes(name=name)]

    def _status(self, volume_id: str) -> str:
        return str(self._storage.get_volume(volume_id).status)

    def _is_gone(self, volume_id: str) -> bool:
        try:
            self._status(volume_id)
        except NotFoundException:
            return True
        return False

    def _poll(self, condition: Callable[[], object], what: str) -> None:
        time.sleep(self._poll_s)
        spin_until(condition, what, self._poll_s)
