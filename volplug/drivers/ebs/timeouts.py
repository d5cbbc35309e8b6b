"""The numbers of the EBS driver, each with its source or called a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STALE_S: Final = 60.0
"""How long reads may miss what this process created or deleted; reports say seconds (Kubernetes #77949)."""

ABSENT_S: Final = 10.0
"""How long a look-up that found no volume of a name spares the creation another one: guess."""

TOKENS_REMEMBERED_S: Final = 3600.0
"""How long it is remembered which token of a name comes next; EC2 forgets tokens later, after a day at most:
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"""

COLLECT_S: Final = 0.003
"""How long look-ups by name are collected into one call; a call takes ten times as long: measured."""

PAGE: Final = 500
"""Volumes in one answer, the most that EC2 gives."""

FILTER_VALUES: Final = 190
"""Values in the filters of a call; EC2 takes 200 in all filters together."""

VOLUMES_KNOWN: Final = 10_000
"""Volumes that are remembered to belong to the cluster: guess."""

BAD_NAME_S: Final = 3600.0
"""How long a device name is avoided that was refused, or under which an attach got stuck: as in AWS's CSI
driver (cacheForgetDelay)."""

NAME_RESTS_S: Final = 60.0
"""How long a name that was given up rests if others are free: guess. Under such names attaches got stuck:
https://github.com/kubernetes/kubernetes/issues/31891"""

CONNECT_TIMEOUT_S: Final = 3
"""For a connection to EC2: guess; it is in the same region, and one lost packet is sent again."""

READ_TIMEOUT_S: Final = 10
"""For EC2's answer to one try: guess; two tries that hang fit into the time of a call."""

METADATA_TIMEOUT_S: Final = 2.0
"""For an answer of the instance metadata service: guess; it is on this machine."""


AGREEING_READS: Final = 3
"""How many reads in a row it takes to believe that a volume is gone, or that an attach has failed: guess."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Times in seconds, and how often; constructor arguments so that tests can shorten them.

    Attributes:
        quiet_s: How long a disk is awaited before EC2 is asked about the attach: guess, above the 2 to 10 s
            that an attach takes.
        attaching_s: After which an attach counts as stuck: what AWS's CSI driver waits, roughly.
        attach_tries: How many device names are tried when attaches get stuck: guess.
        attach_requests: How often AttachVolume is sent when it is refused for its device name, or for a state
            that EC2 does not show: guess.
        delete_requests: How often DeleteVolume is sent when it is refused for a state that EC2 does not show:
            guess.
        detach_s: How long a disk may take to go, and EC2 to say so after it: guess.
        settle_s: How long a transition is waited for that a refusal speaks of: guess.
        new_absent_reads: How many reads in a row have to miss a new volume until it counts as given up:
            guess; they take 15 s.
        create_s: How long a creation may take: below Docker's 120 s. AWS's CSI driver measured a median of
            1.5 s and a 99th percentile of 4 s.
        look_again_s: How long a volume is looked for that another host has created, EC2 says: guess.
        look_pause_s: Between two such look-ups: guess.
        tokens_s: How long tokens are tried that were used before: guess, below Docker's 120 s.
        fence_s: How long an instance may take to stop: guess; a minute or two is usual.
        proof_s: Between the two reads that prove an instance dead: guess, above what reports say of
            stale reads.
        poll_first_s: Between two polls at first: what AWS's CSI driver begins with.
        poll_longest_s: Between two polls later on: guess.
    """

    quiet_s: float = 15.0
    attaching_s: float = 90.0
    attach_tries: int = 3
    attach_requests: int = 12
    delete_requests: int = 8
    detach_s: float = 60.0
    settle_s: float = 60.0
    new_absent_reads: int = 7
    create_s: float = 100.0
    look_again_s: float = 5.0
    look_pause_s: float = 1.0
    tokens_s: float = 60.0
    fence_s: float = 300.0
    proof_s: float = 5.0
    poll_first_s: float = 1.0
    poll_longest_s: float = 5.0
