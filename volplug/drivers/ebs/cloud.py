"""What the parts of the driver share of EC2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from volplug.drivers.ebs.lookups import Caller, Lookups
from volplug.drivers.ebs.patience import Patience
from volplug.drivers.ebs.recent import Recent
from volplug.drivers.ebs.states import States


@dataclass(frozen=True, slots=True)
class Cloud:
    """EC2, as one process uses it for one cluster.

    Attributes:
        caller: Calls it.
        lookups: Describes volumes by name and id.
        states: The shared slow poll.
        recent: What this process did a moment ago.
        patience: How long is waited for what.
        sleep: Waits between looks.
    """

    caller: Caller
    lookups: Lookups
    states: States
    recent: Recent
    patience: Patience
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
