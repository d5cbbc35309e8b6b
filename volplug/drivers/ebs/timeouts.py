"""The numbers of the EBS driver, each with its source or marked as a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from volplug.drivers.cloud.timeouts import CloudTimeouts

TOKENS_REMEMBERED_S: Final = 3600.0
"""How long the next token of a name is remembered; EC2 forgets tokens later, after a day at most:
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"""

FILTER_VALUES: Final = 190
"""Values in the filters of a call; EC2 allows 200 in all filters together."""

BAD_NAME_S: Final = 3600.0
"""How long a device name is avoided after it was refused, or after an attach under it got stuck: as in AWS's
CSI driver (cacheForgetDelay)."""

NAME_RESTS_S: Final = 60.0
"""How long a released name is avoided if others are free: guess. Attaches under such names got stuck:
https://github.com/kubernetes/kubernetes/issues/31891"""


CLOCK_REFUSED_S: Final = 300.0
"""How far this host's clock may be off: a request has to arrive within five minutes of its time stamp, by
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html"""


@dataclass(frozen=True, slots=True)
class Ec2Timeouts(CloudTimeouts):
    """Timeouts and numbers of tries of EC2.

    Attributes:
        attach_tries: How many device names are tried when attaches get stuck: guess.
        attach_requests: How often AttachVolume is sent when it is refused for its device name, or for a state
            that reads do not show: guess.
        delete_requests: How often DeleteVolume is sent when it is refused for a state that reads do not show:
            guess.
        new_absent_reads: How many consecutive reads have to miss a new volume until EC2 counts as having
            given it up: guess; they take 15 s.
        search_s: How long to search for a volume that, by its used token, another host has created: guess.
        search_pause_s: Between two such look-ups: guess.
        tokens_s: How long used tokens are skipped: guess, below Docker's 120 s.
    """

    attach_tries: int = 3
    attach_requests: int = 12
    delete_requests: int = 8
    new_absent_reads: int = 7
    search_s: float = 5.0
    search_pause_s: float = 1.0
    tokens_s: float = 60.0
