"""What another node's hold on a volume means for a Mount here. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from volplug.drivers.base import Holder
from volplug.models import HolderState, TakeoverPolicy
from volplug.volumes.convergence import Standing


def standing(holder: Holder, policy: TakeoverPolicy, *, may_wait: bool, can_take: bool) -> Standing:
    """Judge the node that has the volume.

    Args:
        holder: What the backend says of the node.
        policy: When the volume may be taken from it.
        may_wait: Whether there is time left for the node to let go by itself.
        can_take: Whether the driver is able to take volumes from dead nodes.
    """
    may_take = can_take and policy is not TakeoverPolicy.NEVER
    if holder.state is HolderState.DEAD:
        return Standing.DEAD if may_take else Standing.KEPT
    if may_wait:
        return Standing.AWAITED
    is_unknown = holder.state is HolderState.UNKNOWN and holder.is_answered
    if may_take and policy is TakeoverPolicy.FENCE and is_unknown:
        return Standing.FENCEABLE
    return Standing.KEPT


class Outcome(StrEnum):
    """What a Mount on this host would do about the node that has the volume."""

    NOTHING_TO_DO = "nothing to do"
    TAKE = "take over"
    FENCE = "stop the node, then take over"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TakeoverPlan:
    """The dry run of a takeover: who would lose the volume, and why.

    Attributes:
        volume: Docker's name.
        volume_id: The backend's.
        holder: The node that has it; empty if no other node has.
        state: Whether that node is alive; UNKNOWN if there is none.
        evidence: How that is known.
        policy: What this host may do.
        outcome: What a Mount would do, once its patience with the node is over.
        remedy: What an operator can do where it would refuse; empty if nothing is known.
    """

    volume: str
    volume_id: str
    holder: str
    state: HolderState
    evidence: str
    policy: TakeoverPolicy
    outcome: Outcome
    remedy: str = ""


_OUTCOMES = {Standing.DEAD: Outcome.TAKE, Standing.FENCEABLE: Outcome.FENCE, Standing.KEPT: Outcome.REFUSE}


def outcome(holder: Holder, policy: TakeoverPolicy, *, can_take: bool) -> Outcome:
    """Tell what a Mount does about the node once its patience with it is over."""
    return _OUTCOMES[standing(holder, policy, may_wait=False, can_take=can_take)]
