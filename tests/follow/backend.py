"""The interface of a cloud for this suite; a line in `BACKENDS` runs every test on it."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from tests.lab.ebs import EbsCloud
from tests.lab.host import Host, Hosts


class FollowBackend(Protocol):
    """A cloud that hosts share, with its true state."""

    @property
    def volume_options(self) -> Mapping[str, str]:
        """The options with which the suite creates volumes."""
        ...

    def settings(self, host: Host) -> Mapping[str, str]:
        """The settings of a host's volplug, as environment."""
        ...

    def volumes(self) -> list[str]:
        """The names of all volumes; two of one name are there twice."""
        ...

    def holders(self, volume: str) -> Collection[str]:
        """The names of the hosts that the volume is attached to."""
        ...

    def node_id(self, host: Host) -> str:
        """The id of a host at the cloud."""
        ...

    def named(self, host: Host) -> str:
        """How errors name a host: its id, and its name in brackets where the cloud knows that."""
        ...

    def stop_command(self, host: Host) -> str:
        """The command with which an operator stops a host that may be dead."""
        ...

    def stop(self, host: Host) -> None:
        """Set a host that has lost its power to stopped."""
        ...

    def make_state_unknown(self, host: Host) -> None:
        """Set a host that has lost its power to a state that is neither running nor stopped."""
        ...

    def start(self, host: Host) -> None:
        """Set a stopped host to running, before it boots."""
        ...


BACKENDS: dict[str, Callable[[Hosts], AbstractContextManager[FollowBackend]]] = {"ebs": EbsCloud}
