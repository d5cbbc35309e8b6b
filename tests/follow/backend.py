"""What the suite asks of a cloud; one line in `BACKENDS` and every test runs on it."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from tests.lab.ebs import EbsCloud
from tests.lab.host import Host, Hosts


class FollowBackend(Protocol):
    """A cloud that hosts share, with all that it knows for sure."""

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
        """What the cloud calls a host."""
        ...

    def how_to_stop(self, host: Host) -> str:
        """What an operator is told to do to a host that may be dead."""
        ...

    def stop(self, host: Host) -> None:
        """Declare a host that has lost its power stopped."""
        ...

    def doubt(self, host: Host) -> None:
        """Say of a host that has lost its power neither that it runs nor that it is stopped."""
        ...

    def start(self, host: Host) -> None:
        """Declare a host that was stopped running, before it boots."""
        ...


BACKENDS: dict[str, Callable[[Hosts], AbstractContextManager[FollowBackend]]] = {"ebs": EbsCloud}
