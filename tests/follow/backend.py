"""The interface of a cloud for this suite; a line in `BACKENDS` runs every test on it.

All tests run on EBS. On Cinder, whose lab is slower, those with `ON_ALL_BACKENDS` run always, which depend
most on the cloud, and the others with the slow tests.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.lab.cinder import CinderCloud
from tests.lab.ebs import EbsCloud
from tests.lab.host import Host, Hosts
from tests.lab.openstack.shared import CINDER


class FollowBackend(Protocol):
    """A cloud that hosts share, with its true state."""

    @property
    def volume_options(self) -> Mapping[str, str]:
        """The options with which the suite creates volumes."""
        ...

    @property
    def zone(self) -> str:
        """The availability zone of the volumes."""
        ...

    @property
    def images(self) -> Path:
        """A directory above the images of all volumes."""
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


_Opener = Callable[[Hosts], AbstractContextManager[FollowBackend]]


def _on_cinder(request: pytest.FixtureRequest) -> _Opener:
    lab = request.getfixturevalue("openstack_lab")
    return lambda hosts: CinderCloud(hosts, lab)


# Each starts what a run shares, and returns what connects the hosts to it.
BACKENDS: dict[str, Callable[[pytest.FixtureRequest], _Opener]] = {
    "ebs": lambda _: EbsCloud,
    "cinder": _on_cinder,
}
ALL_WITH_SLOW = ["ebs", pytest.param("cinder", marks=[*CINDER, pytest.mark.slow])]


def on(*backends: object) -> pytest.MarkDecorator:
    """The mark of tests that run on these backends, instead of `ALL_WITH_SLOW`."""
    return pytest.mark.parametrize("backend", backends, indirect=True)


ON_CINDER = on(pytest.param("cinder", marks=CINDER))
ON_ALL_BACKENDS = on("ebs", pytest.param("cinder", marks=CINDER))
