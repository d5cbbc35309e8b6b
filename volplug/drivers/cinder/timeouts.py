"""The numbers of the Cinder driver, each with its source or marked as a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from volplug.drivers.cloud.timeouts import CloudTimeouts

FEW: Final = 3
"""Up to how many volumes are read one by one: guess. Cinder cannot be asked for several at once, and the list
of the cluster has all of them in one call."""

LISTS: Final = 3
"""How often a list is begun anew because the volume that ends a page was deleted meanwhile: guess."""

CHANGE_TIMEOUT_S: Final = 60
"""For the response to a change: Nova answers an attach once the compute host has reserved a device name,
after those before it; for a host that has died it waits 60 s (rpc_response_timeout)."""

ATTACHES: Final = 8
"""How many volumes are attached to this server at once: guess. The compute host makes one after the other, of
some seconds each, while the time of those that wait there runs out:
https://opendev.org/openstack/nova/src/tag/31.0.0/nova/compute/manager.py, do_attach_volume"""


@dataclass(frozen=True, slots=True)
class CinderTimeouts(CloudTimeouts):
    """Timeouts and numbers of tries of Cinder and Nova.

    Attributes:
        attach_requests: How often an attach is requested if refused for a state that ended: guess.
        delete_requests: Likewise, a deletion.
        delete_s: How long a deletion may take: below Docker's 120 s.
        race_s: Between a creation and the look-up of the name before the volume is first attached: guess;
            longer than two clocks of Cinder's API hosts differ and a commit takes.
    """

    quiet_s: float = 5.0
    attach_requests: int = 4
    delete_requests: int = 3
    delete_s: float = 100.0
    race_s: float = 2.0
    poll_first_s: float = 0.5
    poll_longest_s: float = 3.0
    agreeing_reads: int = 2
    absent_reads: int = 1
