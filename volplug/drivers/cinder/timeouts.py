"""The numbers of the Cinder driver, each with its source or marked as a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STALE_S: Final = 60.0
"""How long reads may show what this process deleted: guess; replicas of Cinder's database may lag."""

ABSENT_S: Final = 10.0
"""How long a creation may rely on an earlier look-up that found no volume of the name: guess."""

COLLECT_S: Final = 0.003
"""How long look-ups by name are collected: as for EBS."""

FEW: Final = 3
"""Up to how many volumes are read one by one: guess. Cinder cannot be asked for several at once, and the list
of the cluster has all of them in one call."""

PAGE: Final = 500
"""Volumes in one page; Cinder allows 1000 unless its operator has set less (osapi_max_limit)."""

LISTS: Final = 3
"""How often a list is begun anew because the volume that ends a page was deleted meanwhile: guess."""

VOLUMES_KNOWN: Final = 10_000
"""Volumes that are remembered to belong to the cluster: guess."""

CONNECT_TIMEOUT_S: Final = 3
"""For connecting to a service: guess; one lost packet is retransmitted."""

READ_TIMEOUT_S: Final = 10
"""For the response to a read: guess; two that time out fit into the budget of a call."""

CHANGE_TIMEOUT_S: Final = 60
"""For the response to a change: Nova answers an attach once the compute host has reserved a device name, for
which it waits 60 s (rpc_response_timeout)."""

METADATA_TIMEOUT_S: Final = 2.0
"""For a response of the metadata service: guess; it is on the compute host."""

AGREEING_READS: Final = 2
"""How many consecutive reads it takes to conclude that an attach or a detach has failed: guess."""


@dataclass(frozen=True, slots=True)
class CinderTimeouts:
    """Timeouts in seconds and numbers of tries; constructor arguments so that tests can shorten them.

    Attributes:
        quiet_s: How long to wait for a disk to come or go before Cinder is polled about it: guess.
        attaching_s: After which an attach counts as failed: guess.
        attach_requests: How often an attach is requested if refused for a state that ended: guess.
        delete_requests: Likewise, a deletion.
        detach_s: How long a disk may take to go, and after it the attachment: guess.
        transition_s: How long to wait for the end of a transition for which a call was refused: guess.
        create_s: How long a creation may take: below Docker's 120 s.
        delete_s: How long a deletion may take: likewise.
        race_s: Between a creation and the look-up of the name before the volume is first attached: guess;
            longer than two clocks of Cinder's API hosts differ and a commit takes.
        fence_s: How long a server may take to stop: guess; Nova's own timeout of a clean shutdown is 60 s.
        proof_s: Between the two reads that prove a server dead: guess, as for EBS.
        poll_first_s: Between two polls at first: guess.
        poll_longest_s: Between two polls later on: guess.
    """

    quiet_s: float = 5.0
    attaching_s: float = 90.0
    attach_requests: int = 4
    delete_requests: int = 3
    detach_s: float = 60.0
    transition_s: float = 60.0
    create_s: float = 100.0
    delete_s: float = 100.0
    race_s: float = 2.0
    fence_s: float = 300.0
    proof_s: float = 5.0
    poll_first_s: float = 0.5
    poll_longest_s: float = 3.0
