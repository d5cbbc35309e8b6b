"""The numbers of the EBS driver, each with its source or marked as a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STALE_S: Final = 60.0
"""How long reads may miss what this process created or deleted; reports say seconds (Kubernetes #77949)."""

ABSENT_S: Final = 10.0
"""How long a creation may rely on an earlier look-up that found no volume of the name: guess."""

TOKENS_REMEMBERED_S: Final = 3600.0
"""How long the next token of a name is remembered; EC2 forgets tokens later, after a day at most:
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"""

COLLECT_S: Final = 0.003
"""How long look-ups by name are collected into one call; measured: a call takes ten times as long."""

PAGE: Final = 500
"""Volumes in one page, the most that EC2 allows."""

FILTER_VALUES: Final = 190
"""Values in the filters of a call; EC2 allows 200 in all filters together."""

VOLUMES_KNOWN: Final = 10_000
"""Volumes that are remembered to belong to the cluster: guess."""

BAD_NAME_S: Final = 3600.0
"""How long a device name is avoided after it was refused, or after an attach under it got stuck: as in AWS's
CSI driver (cacheForgetDelay)."""

NAME_RESTS_S: Final = 60.0
"""How long a released name is avoided if others are free: guess. Attaches under such names got stuck:
https://github.com/kubernetes/kubernetes/issues/31891"""

CONNECT_TIMEOUT_S: Final = 3
"""For connecting to EC2: guess; it is in the same region, and one lost packet is retransmitted."""

READ_TIMEOUT_S: Final = 10
"""For EC2's response to one try: guess; two tries that time out fit into the budget of a call."""

METADATA_TIMEOUT_S: Final = 2.0
"""For a response of the instance metadata service: guess; it is on this machine."""


AGREEING_READS: Final = 3
"""How many consecutive reads it takes to conclude that a volume is gone or an attach has failed: guess."""


@dataclass(frozen=True, slots=True)
class Ec2Timeouts:
    """Timeouts in seconds and numbers of tries; constructor arguments so that tests can shorten them.

    Attributes:
        quiet_s: How long to wait for a disk before EC2 is polled about the attach: guess, above the 2 to 10 s
            that an attach takes.
        attaching_s: After which an attach counts as stuck: roughly that of AWS's CSI driver.
        attach_tries: How many device names are tried when attaches get stuck: guess.
        attach_requests: How often AttachVolume is sent when it is refused for its device name, or for a state
            that reads do not show: guess.
        delete_requests: How often DeleteVolume is sent when it is refused for a state that reads do not show:
            guess.
        detach_s: How long a disk may take to go, and after it EC2's state to follow: guess.
        transition_s: How long to wait for the end of a transition for which EC2 has refused a call: guess.
        new_absent_reads: How many consecutive reads have to miss a new volume until EC2 counts as having
            given it up: guess; they take 15 s.
        create_s: How long a creation may take: below Docker's 120 s. AWS's CSI driver measured a median of
            1.5 s and a 99th percentile of 4 s.
        search_s: How long to search for a volume that, by its used token, another host has created: guess.
        search_pause_s: Between two such look-ups: guess.
        tokens_s: How long used tokens are skipped: guess, below Docker's 120 s.
        fence_s: How long an instance may take to stop: guess; a minute or two is usual.
        proof_s: Between the two reads that prove an instance dead: guess, longer than reads are stale in
            reports.
        poll_first_s: Between two polls at first: that of AWS's CSI driver.
        poll_longest_s: Between two polls later on: guess.
    """

    quiet_s: float = 15.0
    attaching_s: float = 90.0
    attach_tries: int = 3
    attach_requests: int = 12
    delete_requests: int = 8
    detach_s: float = 60.0
    transition_s: float = 60.0
    new_absent_reads: int = 7
    create_s: float = 100.0
    search_s: float = 5.0
    search_pause_s: float = 1.0
    tokens_s: float = 60.0
    fence_s: float = 300.0
    proof_s: float = 5.0
    poll_first_s: float = 1.0
    poll_longest_s: float = 5.0
