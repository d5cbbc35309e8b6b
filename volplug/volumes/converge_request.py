"""What one convergence is asked for, and what it works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from volplug.drivers.base import Driver
from volplug.host.base import Host
from volplug.metrics import Metrics
from volplug.models import TakeoverPolicy, Volume, VolumeSpec
from volplug.volumes.decision import Goal
from volplug.volumes.operations import Operation


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one convergence waits for what it cannot hasten, in seconds.

    Attributes:
        release_s: For the last user of a device to close it, after an unmount: mount namespaces end late.
        quick_release_s: The same where a user of the device rarely closes it: before a format or a check, and
            in a trial release that no caller waits for.
        backend_s: For a backend to leave a transition such as detaching.
        poll_s: Between two reads of the backend.
        leaving_s: Before it is asked whether another node, from which the volume is being detached, is alive;
            and how long a driver waits for a transition before the caller is asked whether it still waits.
        recheck_limit: How often a record that contradicts this host is read again, where reads may be stale.
    """

    release_s: float = 3.0
    quick_release_s: float = 0.3
    backend_s: float = 300.0
    poll_s: float = 1.0
    leaving_s: float = 15.0
    recheck_limit: int = 5


def always_wanted() -> None:
    """Do nothing: for work that is not given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergeRequest:
    """One goal for one volume.

    Attributes:
        operation: Whose work it is; its phase follows the steps.
        name: Docker's name of the volume.
        backend: The backend that has it.
        goal: What the volume should become on this host.
        spec: What to create, for PRESENT.
        release_timeout_s: How long to wait for the last user of the device; None for the goal's own default.
        only_id: The volume that is meant; one of its name with another id counts as absent. Empty for any.
        known_absent: The backend was read a moment ago, under the same lock, and has none of this name.
        check_wanted: Raises if the caller does not want the goal any more: nothing is attached or taken over
            for a client that has left, and an operation that was cancelled goes no step further.
        holder_wait_s: How long another node that has the volume is given to detach it.
        takeover: When the volume may be taken from that node.
        is_remount: It was mounted until a moment ago and is in use: it is mounted again, in state ERROR, too.
    """

    operation: Operation
    name: str
    backend: str
    goal: Goal
    spec: VolumeSpec | None = None
    release_timeout_s: float | None = None
    only_id: str = ""
    known_absent: bool = False
    check_wanted: Callable[[], None] = always_wanted
    holder_wait_s: float = 0.0
    takeover: TakeoverPolicy = TakeoverPolicy.NEVER
    is_remount: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergeContext:
    """What one convergence works with.

    Attributes:
        driver: The backend's driver.
        host: This machine.
        target: Where the volume's filesystem is mounted on this host.
        timeouts: How long it waits.
        known: The volume as last described, or None.
        detach_pending: Whether a detach may be in progress; then a device seen here may be about to go.
        metrics: Where its steps are counted.
    """

    driver: Driver
    host: Host
    target: str
    timeouts: Timeouts
    known: Volume | None = None
    detach_pending: bool = False
    metrics: Metrics = field(default_factory=Metrics)
