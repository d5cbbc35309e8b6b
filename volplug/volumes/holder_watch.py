"""Another node that has a volume, or a transition of it: asked about, waited for, taken over from if dead."""

from __future__ import annotations

import asyncio
from typing import Final

from volplug.drivers.base import Driver, Holder, Settles, TakesOver
from volplug.errors import ClientGone, UnexpectedState, VolplugError
from volplug.models import HolderState, TakeoverPolicy, Volume
from volplug.volumes.convergence import Standing
from volplug.volumes.holding import Outcome, TakeoverPlan, outcome, standing
from volplug.volumes.job import Job, Patience

_NOBODY_KNOWS: Final = Holder(HolderState.UNKNOWN, "the backend does not name it", is_answered=False)


async def ask_holder(driver: Driver, node_id: str) -> Holder:
    """Ask the backend about a node; that it cannot say makes the node neither alive nor dead."""
    if not node_id:
        return _NOBODY_KNOWS
    try:
        return await driver.holder_state(node_id)
    except VolplugError as error:
        evidence = f"whether it lives cannot be asked: {error.cause}"
        return Holder(HolderState.UNKNOWN, evidence, is_answered=False)


async def plan_takeover(volume: Volume, driver: Driver, policy: TakeoverPolicy) -> TakeoverPlan:
    """Ask about the node that has a volume, and tell what a Mount here would do about it."""
    node_id = volume.holder or ""
    if node_id in ("", driver.node_id):
        return TakeoverPlan(
            volume.name, volume.volume_id, "", HolderState.UNKNOWN, "", policy, Outcome.NOTHING_TO_DO
        )
    holder = await ask_holder(driver, node_id)
    what = outcome(holder, policy, can_take=isinstance(driver, TakesOver))
    return TakeoverPlan(
        volume.name, volume.volume_id, node_id, holder.state, holder.evidence, policy, what, holder.remedy
    )


class HolderWatch:
    """What one convergence knows of the other node, and how long it has waited for it.

    Attributes:
        waited_s: How long it has waited for transitions to end.
    """

    def __init__(self, job: Job, patience: Patience) -> None:
        self._job = job
        self._patience = patience
        self.waited_s = 0.0
        self._node_id: str | None = None
        self._holder: Holder | None = None
        self._deadline_s: float | None = None
        self._is_asked_last = False

    def standing(self, volume: Volume | None) -> Standing:
        """Return what the node's hold means now; UNASKED until this very node was asked about."""
        if self._holder is None or volume is None or self._node_id != (volume.holder or ""):
            return Standing.UNASKED
        conditions = self._job.conditions
        if not (may_wait := self._may_wait()) and not self._is_asked_last:
            return Standing.UNASKED  # it may have been stopped while it was waited for
        can_take = isinstance(self._job.driver, TakesOver)
        return standing(self._holder, conditions.takeover, may_wait=may_wait, can_take=can_take)

    def _may_wait(self) -> bool:
        wait_s = self._job.conditions.holder_wait_s
        return wait_s > 0 and (
            self._deadline_s is None or asyncio.get_running_loop().time() < self._deadline_s
        )

    async def ask(self, volume: Volume) -> None:
        """Ask the backend about the node that has the volume."""
        self._node_id = volume.holder or ""
        self._is_asked_last = not self._may_wait()
        self._holder = await ask_holder(self._job.driver, self._node_id)

    @property
    def told(self) -> Holder | None:
        """Return what was learnt of the node, None if it was not asked about."""
        return self._holder

    async def wait(self) -> None:
        """Give the node a moment to let go.

        Raises:
            ClientGone: If nobody waits for the volume here any more.
        """
        if self._deadline_s is None:
            now_s = asyncio.get_running_loop().time()
            self._deadline_s = now_s + self._job.conditions.holder_wait_s
        await asyncio.sleep(self._patience.poll_s)
        self.check_wanted()

    async def wait_settled(self, volume: Volume) -> Volume | None:
        """Wait for a transition to end, or a moment; return what is known of the volume then.

        Returns:
            The volume as the driver describes it, or None if the driver has to be asked.

        Raises:
            ClientGone: If the caller does not wait for the volume any more.
        """
        clock, driver, found = asyncio.get_running_loop().time, self._job.driver, None
        before_s = clock()
        if isinstance(driver, Settles):
            found = await driver.wait_settled(volume, self._patience.leaving_s)
        else:
            await asyncio.sleep(self._patience.poll_s)
        self.waited_s += clock() - before_s
        self.check_wanted()
        return found

    async def waits_once_more(self) -> bool:
        """Wait if there is time left; tell whether there was."""
        if not self._may_wait():
            return False
        await self.wait()
        return True

    def check_wanted(self) -> None:
        """Check that somebody still waits: nothing is taken or attached for nobody.

        Raises:
            ClientGone: If not.
        """
        if not self._job.conditions.is_wanted():
            raise ClientGone("the client left while it waited for the volume")

    async def fence(self, volume: Volume) -> None:
        """Stop the node, which nobody knows to be alive, and ask about it anew."""
        self.check_wanted()
        await self._able().fence(volume.holder or "")
        self._holder = None

    async def take_over(self, volume: Volume) -> None:
        """Take the volume from the node, which is proven dead."""
        self.check_wanted()
        await self._able().take_from(volume, volume.holder or "")
        self._holder = None

    def _able(self) -> TakesOver:
        driver = self._job.driver
        if not isinstance(driver, TakesOver):
            raise UnexpectedState("its driver cannot take volumes from other nodes")
        return driver
