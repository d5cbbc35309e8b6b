"""What one convergence is to do, and how patient it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from volplug.drivers.base import Driver
from volplug.models import TakeoverPolicy, Volume, VolumeSpec
from volplug.volumes.convergence import Goal


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one convergence waits for what it cannot hasten, in seconds.

    Attributes:
        release_s: For the last user of a device to go, after an unmount: namespaces end late.
        mount_s: The same where whoever holds the device rarely lets go: before a format or a check, and in a
            trial that nobody waits for.
        backend_s: For a backend to leave a state such as detaching.
        poll_s: Between two looks at the backend.
        leaving_s: Before it is asked whether another node, from which the volume is being detached, lives;
            and how long a driver waits for a transition before it is asked whether the caller still does.
        news_looks: How often a record that contradicts this host is asked for again, where backends can
            show the past.
    """

    release_s: float = 3.0
    mount_s: float = 0.3
    backend_s: float = 300.0
    poll_s: float = 1.0
    leaving_s: float = 15.0
    news_looks: int = 5


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a caller may ask for beside the goal.

    Attributes:
        spec: What to create, for PRESENT.
        patience_s: How long to wait for the last user of the device to go; None for what the goal deserves.
        only_id: The one volume that is meant, where another of its name is none of ours; empty for any.
        is_absent: The backend was asked a moment ago, under the same lock, and has none of this name.
        is_wanted: Whether somebody still waits for it; nothing is attached for nobody.
        holder_wait_s: How long another node that has the volume is given to let go of it.
        takeover: When the volume may be taken from that node.
    """

    spec: VolumeSpec | None = None
    patience_s: float | None = None
    only_id: str = ""
    is_absent: bool = False
    is_wanted: Callable[[], bool] = lambda: True
    holder_wait_s: float = 0.0
    takeover: TakeoverPolicy = TakeoverPolicy.NEVER


UNCONDITIONAL: Final = Conditions()


@dataclass(frozen=True, slots=True)
class Job:
    """What one convergence works on.

    Attributes:
        operation: For error texts: `mount`, `remove`, ...
        goal: What the volume should become.
        name: Docker's name.
        backend: Name of the backend.
        driver: The backend's driver.
        target: Where the volume's filesystem is mounted on this host.
        patience_s: How long to wait for the last user of the device to go.
        known: The volume as last described, or None.
        conditions: What else the caller asked for.
        may_be_leaving: Whether a detach may be under way; then what is known and seen here is not enough.
    """

    operation: str
    goal: Goal
    name: str
    backend: str
    driver: Driver
    target: str
    patience_s: float
    known: Volume | None = None
    conditions: Conditions = UNCONDITIONAL
    may_be_leaving: bool = False
