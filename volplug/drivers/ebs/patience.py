"""How long is waited for what; constructor values, so that tests need not wait as long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds, and how often.

    Attributes:
        quiet_s: A disk is awaited for so long without asking EC2 how it goes.
        attaching_s: An attach that takes longer is stuck; AWS and other drivers say 90 s.
        attach_tries: How many device names are tried when attaches get stuck.
        request_tries: How often EC2 is asked for one attach that it refuses, with other names or later.
        detach_s: How long a volume may take to leave.
        settle_s: How long is waited for what goes on at EC2 already, such as a detach elsewhere.
        visible_s: For how long EC2 may not know yet of a volume that it has just created.
        create_s: How long the creation of a volume may take that can still fail.
        look_again_s: For how long a volume is looked for of which EC2 says that somebody else created it.
        look_pause_s: Between two looks for it.
        late_pauses_s: Before each look by id for a new volume that a look-up by name does not show; look-ups
            are late by a second or two, rarely more.
        tokens_s: For how long tokens are tried that were used before.
        fence_s: How long an instance may take to stop.
        proof_s: Between the two looks that prove an instance dead; a stale read lasts a second or two.
        poll_first_s: Until the first look at EC2's states.
        poll_longest_s: Longest pause between two looks.
    """

    quiet_s: float = 15.0
    attaching_s: float = 90.0
    attach_tries: int = 3
    request_tries: int = 12
    detach_s: float = 60.0
    settle_s: float = 60.0
    visible_s: float = 15.0
    create_s: float = 100.0
    look_again_s: float = 5.0
    look_pause_s: float = 1.0
    late_pauses_s: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
    tokens_s: float = 60.0
    fence_s: float = 300.0
    proof_s: float = 5.0
    poll_first_s: float = 1.0
    poll_longest_s: float = 5.0
