"""What the parts on clouds share: volplug on a node of a cloud, and the ways to make and use volumes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Protocol, Self

from benchmarks.client import TIMEOUT_S, CallError, PluginClient, decoded, request
from benchmarks.place import Place
from tests.lab.plugin import VolplugProcess

MOUNT_ID: Final = "0" * 64
CHECK_EVERY_S: Final = 0.0001
_DISK_TIMEOUT_S: Final = 60.0
_AT_ONCE_TIMEOUT_S: Final = 120.0  # as long as Docker waits for a Mount


def spin_until(condition: Callable[[], object], what: str, check_every_s: float = CHECK_EVERY_S) -> None:
    """Check so often that the interval adds nothing to the measured time."""
    deadline = time.monotonic() + _DISK_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise CallError(f"waited {_DISK_TIMEOUT_S:g} s in vain until {what}")
        time.sleep(check_every_s)


class CloudVolplug:
    """`volplug serve` on a node of a cloud.

    Args:
        where: Where it runs.
        name: The name of its files.
        config: The text of its configuration file.
        volume_size: Of the volumes that it makes.
        mount_grace_s: Also the delay of the one search that follows every start.
    """

    def __init__(
        self, where: Place, name: str, config: str, volume_size: str, mount_grace_s: float = 1
    ) -> None:
        file = where.directory / f"{name}.toml"
        file.write_text(config)
        self._volume_size = volume_size
        env = {"VOLPLUG_CONFIG": str(file), "VOLPLUG_MOUNT_GRACE_S": str(mount_grace_s)}
        self.process = VolplugProcess(where, name=name, socket=where.directory / f"{name}.sock", env=env)

    def __enter__(self) -> Self:
        self.process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """See `benchmarks.peers.Plugin`."""
        return self.process.pid

    def connect(self, timeout_s: float = TIMEOUT_S) -> PluginClient:
        """See `benchmarks.peers.Plugin`."""
        return PluginClient(self.process.socket, timeout_s)

    def at_once(self, verb: str, names: Sequence[str], **body: object) -> dict[str, str]:
        """Make one call for each name, all at once; return the errors by name with the last answer."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.connect(_AT_ONCE_TIMEOUT_S)) for _ in names]
            for name, client in zip(names, clients, strict=True):
                client.send(request(verb, {"Name": name, **body}))
            errors = [str(decoded(client.receive()).get("Err") or "") for client in clients]
        return {name: error for name, error in zip(names, errors, strict=True) if error}

    def create(self, client: PluginClient, name: str) -> None:
        """See `benchmarks.peers.Plugin`."""
        client.call("Create", Name=name, Opts={"size": self._volume_size})


class Way(Protocol):
    """One way to make and use volumes."""

    def create(self, name: str) -> None:
        """Make a volume."""
        ...

    def mount(self, name: str) -> None:
        """Attach and mount it."""
        ...

    def unmount(self, name: str) -> None:
        """Unmount it."""
        ...

    def wait_detached(self, name: str) -> None:
        """Return once it is detached, after it was unmounted; detach it unless that follows automatically."""
        ...

    def remove(self, name: str) -> None:
        """Delete it."""
        ...

    def mount_all(self, names: Sequence[str]) -> None:
        """Mount many at once."""
        ...


class ByVolplug:
    """Over the socket of volplug.

    Args:
        volplug: Runs on a node of a cloud.
        client: A connection to it.
        is_bare: Tells whether the node has no volume's disk.
    """

    def __init__(self, volplug: CloudVolplug, client: PluginClient, is_bare: Callable[[], bool]) -> None:
        self._volplug = volplug
        self._client = client
        self._is_bare = is_bare

    def create(self, name: str) -> None:
        """See `Way`."""
        self._volplug.create(self._client, name)

    def mount(self, name: str) -> None:
        """See `Way`."""
        self._client.call("Mount", Name=name, ID=MOUNT_ID)

    def unmount(self, name: str) -> None:
        """See `Way`."""
        self._client.call("Unmount", Name=name, ID=MOUNT_ID)

    def wait_detached(self, name: str) -> None:
        """See `Way`; volplug detaches automatically. No other volume is attached."""
        spin_until(self._is_bare, f"{name} has gone")

    def remove(self, name: str) -> None:
        """See `Way`."""
        self._client.call("Remove", Name=name)

    def mount_all(self, names: Sequence[str]) -> None:
        """See `Way`: a connection for each."""
        if failed := self._volplug.at_once("Mount", names, ID=MOUNT_ID):
            raise CallError(f"{len(failed)} of {len(names)} failed: {failed}")
