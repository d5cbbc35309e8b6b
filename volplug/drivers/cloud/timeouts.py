"""The numbers that drivers of clouds share, each with its source or marked as a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STALE_S: Final = 60.0
"""How long reads may miss what this process created or deleted; of EC2, reports say seconds (Kubernetes
#77949)."""

ABSENT_S: Final = 10.0
"""How long a creation may rely on an earlier look-up that found no volume of the name: guess."""

COLLECT_S: Final = 0.003
"""How long look-ups by name are collected into one call; measured: a call takes ten times as long."""

PAGE: Final = 500
"""Volumes in one page: the most that EC2 allows; Cinder allows 1000 unless its operator has set less."""

VOLUMES_KNOWN: Final = 10_000
"""Volumes that are remembered to belong to the cluster: guess."""

CONNECT_TIMEOUT_S: Final = 3
"""For connecting to a service: guess; it is nearby, and one lost packet is retransmitted."""

READ_TIMEOUT_S: Final = 10
"""For the response to one try: guess; two tries that time out fit into the budget of a call."""

PROOF_HOLDS_S: Final = 5.0
"""For how long after its proof a change may still be requested: as long as lies between the proof's reads."""

CLOCK_DOUBTED_S: Final = 60.0
"""From how far on this host's clock counts as wrong: guess; a synchronised one is off by milliseconds."""

METADATA_TIMEOUT_S: Final = 2.0
"""For a response of the metadata service: guess; it is on this machine."""


@dataclass(frozen=True, slots=True)
class CloudTimeouts:
    """Timeouts in seconds; constructor arguments so that tests can shorten them.

    Attributes:
        quiet_s: How long to wait for a disk to come before the cloud is polled about it: guess.
        attaching_s: After which an attach counts as stuck: roughly that of AWS's CSI driver.
        detach_s: How long a disk may take to go, and after it the cloud's state to follow: guess.
        transition_s: How long to wait for the end of a transition for which a call was refused: guess.
        create_s: How long a creation may take: below Docker's 120 s. AWS's CSI driver measured a median of
            1.5 s and a 99th percentile of 4 s.
        fence_s: How long a node may take to stop: guess; a minute or two is usual.
        proof_s: Between the two reads that prove a node dead: guess, longer than reads are stale in reports.
        poll_first_s: Between two polls at first: that of AWS's CSI driver.
        poll_longest_s: Between two polls later on: guess.
        agreeing_reads: How many consecutive reads it takes to conclude that a change has failed: guess.
        absent_reads: Likewise, that a volume is gone.
    """

    quiet_s: float = 15.0
    attaching_s: float = 90.0
    detach_s: float = 60.0
    transition_s: float = 60.0
    create_s: float = 100.0
    fence_s: float = 300.0
    proof_s: float = 5.0
    poll_first_s: float = 1.0
    poll_longest_s: float = 5.0
    agreeing_reads: int = 3
    absent_reads: int = 3
