"""Both ways for some volumes at once, while EC2's states take seconds."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

from benchmarks.client import CallError
from benchmarks.clouds import MOUNT_ID, CloudVolplug
from benchmarks.ebs.testbed import VOLUME_SIZE
from benchmarks.ebs.ways import BySdk
from tests.ec2sim import RemoteEc2Cloud
from tests.lab.waiting import wait_until

_POLL_FIRST_S: Final = 0.05  # so that a state of whole seconds ends just before a poll, not at the same time
_POLLS: Final = 60
_QUIET_POLLS: Final = 1.2  # longer than between two polls of a wait
_QUIET_TIMEOUT_S: Final = 30.0

Description = Mapping[str, Any]


class Group(Protocol):
    """Operations on some volumes at once; each call returns when the last of them is done."""

    def create(self, names: Sequence[str]) -> None:
        """Make volumes."""
        ...

    def mount(self, names: Sequence[str], *, is_blank: bool = False) -> None:
        """Attach them, format them if they are blank, mount them."""
        ...

    def unmount(self, names: Sequence[str]) -> None:
        """Unmount them."""
        ...

    def detach(self, names: Sequence[str]) -> None:
        """After an unmount, detach them unless that is automatic; return when they are available."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Delete them."""
        ...

    def calls(self) -> Counter[str]:
        """Return how often each action was called so far."""
        ...

    def settle(self) -> None:
        """Return once no calls are made in the background any more."""
        ...

    def failures(self) -> list[str]:
        """Return the errors since the last call of this method; the failed operations were repeated."""
        ...


class GroupByVolplug:
    """Over the socket of volplug, a connection for each volume.

    Args:
        volplug: Runs on the instance.
        cloud: The simulated EC2.
        instance_id: Whose calls are counted.
        poll_every_s: From one poll to the next.
    """

    def __init__(
        self, volplug: CloudVolplug, cloud: RemoteEc2Cloud, instance_id: str, poll_every_s: float
    ) -> None:
        self._volplug = volplug
        self._quiet_s = _QUIET_POLLS * poll_every_s
        self._failures: list[str] = []
        self.calls: Callable[[], Counter[str]] = partial(cloud.calls.counts, instance_id)

    def create(self, names: Sequence[str]) -> None:
        """See `Group`."""
        self._at_once("Create", names, Opts={"size": VOLUME_SIZE})

    def mount(self, names: Sequence[str], *, is_blank: bool = False) -> None:
        """See `Group`; volplug detects blank volumes."""
        self._at_once("Mount", names, ID=MOUNT_ID)

    def unmount(self, names: Sequence[str]) -> None:
        """See `Group`."""
        self._at_once("Unmount", names, ID=MOUNT_ID)

    def detach(self, names: Sequence[str]) -> None:
        """See `Group`; volplug detaches automatically."""

    def remove(self, names: Sequence[str]) -> None:
        """See `Group`."""
        self._at_once("Remove", names)

    def settle(self) -> None:
        """See `Group`."""

        def is_quiet() -> bool:
            before = self.calls()
            time.sleep(self._quiet_s)
            return self.calls() == before

        wait_until(is_quiet, _QUIET_TIMEOUT_S, "volplug makes no more calls to EC2")

    def failures(self) -> list[str]:
        """See `Group`."""
        failures, self._failures = self._failures, []
        return failures

    def _at_once(self, verb: str, names: Sequence[str], **body: object) -> None:
        """Make calls, and repeat those that fail once, so that the rest of a life cycle can be measured."""
        failed = self._volplug.at_once(verb, names, **body)
        self._failures += failed.values()
        if failed and (again := self._volplug.at_once(verb, list(failed), **body)):
            raise CallError(f"{len(again)} of {len(names)} {verb}s failed twice: {again}")


class GroupBySdk:
    """Bare calls: a thread for each volume, and one DescribeVolumes every second until all are done.

    Args:
        bare: The bare calls.
        cloud: The simulated EC2.
        instance_id: Whose calls are counted.
        poll_every_s: From one poll to the next.
    """

    def __init__(
        self, bare: BySdk, cloud: RemoteEc2Cloud, instance_id: str, poll_every_s: float = 1.0
    ) -> None:
        self._bare = bare
        self._poll_every_s = poll_every_s
        self.calls: Callable[[], Counter[str]] = partial(cloud.calls.counts, instance_id)

    def create(self, names: Sequence[str]) -> None:
        """See `Group`: DescribeVolumes, CreateVolume, DescribeVolumes until available."""
        self._bare.require_absent(names)
        _each(self._bare.make, names)
        self._until(names, is_available)

    def mount(self, names: Sequence[str], *, is_blank: bool = False) -> None:
        """See `Group`: DescribeVolumes, AttachVolume, DescribeVolumes until attached, mkfs, mount."""
        found = self._bare.shown(names)
        _each(self._bare.attach, names, [str(found[name]["VolumeId"]) for name in names], self._bare.devices)
        self._until(names, is_attached)
        _each(partial(self._bare.mount_attached, is_blank=is_blank), names)

    def unmount(self, names: Sequence[str]) -> None:
        """See `Group`: umount alone."""
        _each(self._bare.unmount, names)

    def detach(self, names: Sequence[str]) -> None:
        """See `Group`: DetachVolume, DescribeVolumes until available."""
        _each(self._bare.detach, names)
        self._until(names, is_available)

    def remove(self, names: Sequence[str]) -> None:
        """See `Group`: DescribeVolumes, DeleteVolume."""
        found = self._bare.shown(names)
        _each(self._bare.delete, [str(found[name]["VolumeId"]) for name in names])

    def settle(self) -> None:
        """See `Group`: there is no background work."""

    def failures(self) -> list[str]:
        """See `Group`: a failure ends the benchmark."""
        return []

    def _until(self, names: Sequence[str], is_through: Callable[[Description], bool]) -> None:
        time.sleep(_POLL_FIRST_S)
        for _ in range(_POLLS):
            found = self._bare.shown(names)
            if len(found) == len(names) and all(map(is_through, found.values())):
                return
            time.sleep(self._poll_every_s)
        raise CallError(f"EC2 was polled {_POLLS} times in vain for {names}")


def is_available(description: Description) -> bool:
    """Return whether a volume can be attached."""
    return bool(description["State"] == "available")


def is_attached(description: Description) -> bool:
    """Return whether the attachment of a volume is complete."""
    return [each["State"] for each in description["Attachments"]] == ["attached"]


def _each(action: Callable[..., object], names: Sequence[str], *others: Sequence[str]) -> None:
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(action, names, *others))
