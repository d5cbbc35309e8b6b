"""Another node that has a volume: judged, waited for, and taken over from if it is proven dead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from volplug.drivers.base import Driver, Holder, Settles, TakesOver
from volplug.errors import UnexpectedState, VolplugError
from volplug.models import HolderState, TakeoverPolicy, Volume
from volplug.volumes.converge_request import ConvergeRequest, Timeouts
from volplug.volumes.observed import HolderVerdict

_UNNAMED: Final = Holder(HolderState.UNKNOWN, "the backend does not name the node", is_answered=False)


def judge_holder(holder: Holder, policy: TakeoverPolicy, *, may_wait: bool, can_take: bool) -> HolderVerdict:
    """Judge the node that has the volume. Pure.

    Args:
        holder: What the backend reports of the node.
        policy: When the volume may be taken from it.
        may_wait: Whether there is time left for the node to detach the volume.
        can_take: Whether the driver is able to take volumes from dead nodes.
    """
    may_take = can_take and policy is not TakeoverPolicy.NEVER
    if holder.state is HolderState.DEAD:
        return HolderVerdict.DEAD if may_take else HolderVerdict.KEPT
    if may_wait:
        return HolderVerdict.AWAITED
    is_unknown = holder.state is HolderState.UNKNOWN and holder.is_answered
    if may_take and policy is TakeoverPolicy.FENCE and is_unknown:
        return HolderVerdict.FENCEABLE
    return HolderVerdict.KEPT


class TakeoverOutcome(StrEnum):
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
        volume_id: The backend's id of it.
        holder: The node that has it; empty if no other node has.
        state: Whether that node is alive; UNKNOWN if there is none.
        evidence: How that is known.
        policy: What this host may do.
        outcome: What a Mount would do after `release_wait_s`.
        remedy: What an operator can do where it would refuse; empty if nothing is known.
    """

    volume: str
    volume_id: str
    holder: str
    state: HolderState
    evidence: str
    policy: TakeoverPolicy
    outcome: TakeoverOutcome
    remedy: str = ""


_OUTCOMES: Final = {
    HolderVerdict.DEAD: TakeoverOutcome.TAKE,
    HolderVerdict.FENCEABLE: TakeoverOutcome.FENCE,
    HolderVerdict.KEPT: TakeoverOutcome.REFUSE,
}


async def ask_holder(driver: Driver, node_id: str) -> Holder:
    """Ask the backend whether a node is alive; one that cannot be asked about is neither alive nor dead."""
    if not node_id:
        return _UNNAMED
    try:
        return await driver.holder_state(node_id)
    except VolplugError as error:
        evidence = f"whether it is alive is not known: {error.cause}"
        return Holder(HolderState.UNKNOWN, evidence, is_answered=False)


async def plan_takeover(volume: Volume, driver: Driver, policy: TakeoverPolicy) -> TakeoverPlan:
    """Return what a Mount here would do about the node that has a volume, and why; changes nothing."""
    node_id = volume.holder or ""
    if node_id in ("", driver.node_id):
        nothing = TakeoverOutcome.NOTHING_TO_DO
        return TakeoverPlan(volume.name, volume.volume_id, "", HolderState.UNKNOWN, "", policy, nothing)
    holder = await ask_holder(driver, node_id)
    verdict = judge_holder(holder, policy, may_wait=False, can_take=isinstance(driver, TakesOver))
    return TakeoverPlan(
        volume.name,
        volume.volume_id,
        node_id,
        holder.state,
        holder.evidence,
        policy,
        _OUTCOMES[verdict],
        holder.remedy,
    )


class HolderWatch:
    """What one convergence knows of the other node, and how long it has waited for it.

    Attributes:
        waited_s: How long it has waited for transitions to end.
        last_answer: What was last learnt of the node; None if it was not asked about.
    """

    def __init__(self, request: ConvergeRequest, driver: Driver, timeouts: Timeouts) -> None:
        self._request = request
        self._driver = driver
        self._timeouts = timeouts
        self.waited_s = 0.0
        self.last_answer: Holder | None = None
        self._node_id: str | None = None
        self._deadline_s: float | None = None
        self._is_asked_last = False

    def verdict(self, volume: Volume | None) -> HolderVerdict:
        """Return what to do about the node now; UNASKED until this very node was asked about."""
        if self.last_answer is None or volume is None or self._node_id != (volume.holder or ""):
            return HolderVerdict.UNASKED
        if not (may_wait := self._may_wait()) and not self._is_asked_last:
            return HolderVerdict.UNASKED  # it may have been stopped while it was waited for
        can_take = isinstance(self._driver, TakesOver)
        return judge_holder(self.last_answer, self._request.takeover, may_wait=may_wait, can_take=can_take)

    def _may_wait(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        return self._request.holder_wait_s > 0 and (self._deadline_s is None or now_s < self._deadline_s)

    async def ask(self, volume: Volume) -> None:
        """Ask the backend about the node that has the volume."""
        self._node_id = volume.holder or ""
        self._is_asked_last = not self._may_wait()
        self.last_answer = await ask_holder(self._driver, self._node_id)

    async def wait(self) -> None:
        """Wait one poll interval for the node to detach the volume.

        Raises:
            ClientGone: If the caller does not wait for the volume any more.
        """
        if self._deadline_s is None:
            now_s = asyncio.get_running_loop().time()
            self._deadline_s = now_s + self._request.holder_wait_s
        await asyncio.sleep(self._timeouts.poll_s)
        self.check_wanted()

    async def wait_if_time_is_left(self) -> bool:
        """Wait one poll interval unless the time for it is over; return whether it waited."""
        if not self._may_wait():
            return False
        await self.wait()
        return True

    async def wait_settled(self, volume: Volume) -> Volume | None:
        """Wait for a transition of the volume to end, or for a part of the time that it may take.

        Returns:
            The volume as the driver describes it, or None if the driver has to be asked.

        Raises:
            ClientGone: If the caller does not wait for the volume any more.
        """
        clock, found = asyncio.get_running_loop().time, None
        before_s = clock()
        if isinstance(self._driver, Settles):
            found = await self._driver.wait_settled(volume, self._timeouts.leaving_s)
        else:
            await asyncio.sleep(self._timeouts.poll_s)
        self.waited_s += clock() - before_s
        self.check_wanted()
        return found

    def check_wanted(self) -> None:
        """Check that the caller still waits: nothing is taken or attached for one that has left.

        Raises:
            ClientGone: If it does not.
            OperationCancelled: If it was cancelled.
        """
        self._request.check_wanted()

    async def fence(self, volume: Volume) -> None:
        """Stop the node, which is not known to be alive, and forget what was learnt of it."""
        self.check_wanted()
        await self._takes_over().fence(volume.holder or "")
        self.last_answer = None

    async def take_over(self, volume: Volume) -> None:
        """Detach the volume from the node, which is proven dead."""
        self.check_wanted()
        await self._takes_over().take_from(volume, volume.holder or "")
        self.last_answer = None

    def _takes_over(self) -> TakesOver:
        if not isinstance(self._driver, TakesOver):
            raise UnexpectedState(f"driver {self._driver.info.driver} cannot take volumes from other nodes")
        return self._driver
