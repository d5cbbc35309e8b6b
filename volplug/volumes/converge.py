"""Converging: the one way in which a volume is changed on this host. Observe, decide, act, until the goal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

import structlog

from volplug.errors import ErrorContext, UnexpectedState, VolplugError
from volplug.models import Volume
from volplug.steps import OnStep, WorldStep
from volplug.volumes.act import Actions
from volplug.volumes.converge_request import ConvergeContext, ConvergeRequest
from volplug.volumes.decision import PASSIVE_STEPS, Goal, Refusal, Step, decide
from volplug.volumes.events import EventKind, EventLog
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import LocalNode
from volplug.volumes.observe import Observer
from volplug.volumes.refusals import refusal_error
from volplug.volumes.takeover import HolderWatch

_LOG = structlog.get_logger(__name__)
_MAX_REPEATS: Final = 3
# What an operator searches the log for: each change of the world is one line.
CHANGES: Final = {
    Step.CREATE: "volume created",
    Step.FENCE: "node stopped",
    Step.TAKE_OVER: "volume taken over",
    Step.ATTACH: "volume attached",
    Step.TAG_FORMATTING: "format begun",
    Step.MAKE_FILESYSTEM: "filesystem made",
    Step.CHECK_FILESYSTEM: "filesystem checked",
    Step.MOUNT: "volume mounted",
    Step.FINISH_FORMAT: "format finished",
    Step.UNMOUNT: "volume unmounted",
    Step.DETACH: "volume detached",
    Step.DELETE: "volume deleted",
}
_DESIRED: Final = {
    Goal.PRESENT: Desired.PRESENT,
    Goal.MOUNTED: Desired.MOUNTED,
    Goal.ABSENT: Desired.ABSENT,
}
# Operations that are over once the volume is detached.
_RELEASES: Final = ("unmount", "detach", "trial release", "release")
_DETACHING_GOALS: Final = frozenset({Goal.DETACHED, Goal.ABSENT})


class Convergence:
    """One convergence of one volume, whose lock the caller holds."""

    def __init__(
        self,
        request: ConvergeRequest,
        context: ConvergeContext,
        before_change: Callable[[Volume | None], Awaitable[None]],
        on_step: OnStep,
        events: EventLog,
    ) -> None:
        holder = HolderWatch(request, context.driver, context.timeouts)
        self._request = request
        self._driver = context.driver
        self._observer = Observer(request, context, holder)
        self._actions = Actions(request, context, self._observer, holder)
        self._before_change = before_change
        self._on_step = on_step
        self._events = events
        self._steps = context.metrics.steps
        self._changes: Counter[Step] = Counter()

    @property
    def volume(self) -> Volume | None:
        """Return the volume as known by now; None if there is none."""
        return self._observer.volume

    @property
    def is_attached_here(self) -> bool:
        """Tell whether this host has a device of the volume, as far as it was looked for."""
        return self._observer.source is not None

    @property
    def is_absent(self) -> bool:
        """Tell whether the backend is sure that there is no such volume."""
        return self._observer.is_absent

    async def to_goal(self) -> Volume | None:
        """Converge.

        Raises:
            VolplugError: Why the goal was refused or a step failed, with its context.
        """
        clock = asyncio.get_running_loop().time
        try:
            while (step := await self._next_step()) is not Step.DONE:
                if self._request.goal is not Goal.MOUNTED:  # a Mount is given up only after it has waited
                    self._request.check_wanted()
                self._request.operation.phase = step
                begun_s = clock()
                try:
                    await (self._actions.perform(step) if step in PASSIVE_STEPS else self._change(step))
                finally:
                    self._steps[self._request.backend, step.value].add(clock() - begun_s)
        except VolplugError as error:
            raise error.in_context(self._error_context()) from error.__cause__
        return self.volume

    async def _next_step(self) -> Step:
        observed = await self._observer.observe()
        decision = decide(observed, self._request.goal)
        _LOG.debug(
            "next step",
            step=decision,
            goal=self._request.goal,
            volume=self._request.name,
            operation=self._request.operation,
            observed=observed,
        )
        if isinstance(decision, Refusal):
            raise refusal_error(decision.reason, await self._observer.facts(decision.reason))
        return decision

    async def _change(self, step: Step) -> None:
        if not self._changes:
            await self._before_change(self.volume)
        if self._changes[step] >= _MAX_REPEATS:
            raise UnexpectedState(f"step {step} had no effect", "See the log of volplug")
        clock = asyncio.get_running_loop().time
        begun_s, before, device = clock(), self.volume, self._device
        if await self._actions.perform(step):
            self._changes[step] += 1
            self._on_step(WorldStep[step.name])
            self._report_change(step, before or self.volume, device or self._device, clock() - begun_s)

    @property
    def _device(self) -> str:
        return self._observer.source.name if self._observer.source else ""

    def _report_change(self, step: Step, volume: Volume | None, device: str, duration_s: float) -> None:
        """Report a change of the world.

        Args:
            step: What was done.
            volume: As it was before, or as it was created.
            device: The volume's device before or after the step; empty for none.
            duration_s: How long it took.
        """
        is_forced = step in (Step.FENCE, Step.TAKE_OVER)
        known = {
            "volume_id": volume.volume_id if volume else "",
            "device": device,
            "from_node": (volume.holder or "") if volume and is_forced else "",
        }
        self._events.record(
            "warning" if is_forced else "info",
            EventKind.CHANGE,
            CHANGES[step],
            volume=self._request.name,
            backend=self._request.backend,
            **{key: value for key, value in known.items() if value},
            operation=self._request.operation,
            duration_s=f"{duration_s:.3f}",
        )

    def _error_context(self) -> ErrorContext:
        request = self._request
        volume_id = self.volume.volume_id if self.volume else ""
        node_id = self._driver.node_id
        return ErrorContext(request.operation.kind, request.name, request.backend, volume_id, node_id)


class Converger:
    """Converges volumes of this node, and keeps the ledger in step."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node
        # A cloud takes no detach back: a device that still shows is about to go.
        self._detach_pending: set[str] = set()

    def expect_detach(self, names: Iterable[str]) -> None:
        """Note that detaches of these volumes may be in progress: a process before this one began them."""
        self._detach_pending.update(names)

    async def converge(self, request: ConvergeRequest) -> Volume | None:
        """Bring a volume to a goal; the caller holds its lock.

        The desired state is in the ledger before the first change; what became known is there afterwards, and
        a desire that was reached is not. A reached MOUNTED stands until the last Unmount.

        Raises:
            VolplugError: Why the goal could not be reached, with its context.
        """
        node, name, goal = self._node, request.name, request.goal
        convergence = Convergence(
            request,
            self._context(request),
            lambda volume: self._record_intent(request, volume),
            node.on_step,
            node.events,
        )
        is_reached = False
        try:
            volume = await convergence.to_goal()
            is_reached = True
            if goal in _DETACHING_GOALS or goal is Goal.MOUNTED:
                self._detach_pending.discard(name)
            return volume
        finally:
            await self._record_result(request, convergence, is_reached=is_reached)

    def _context(self, request: ConvergeRequest) -> ConvergeContext:
        node, name = self._node, request.name
        entry = node.ledger.get(name)
        return ConvergeContext(
            driver=node.driver(request.backend),
            host=node.host(request.backend),
            target=node.target(name),
            timeouts=node.timeouts,
            metrics=node.metrics,
            known=entry.record if entry and entry.backend == request.backend else None,
            detach_pending=name in self._detach_pending,
        )

    async def _record_intent(self, request: ConvergeRequest, volume: Volume | None) -> None:
        if request.goal in _DETACHING_GOALS:
            self._detach_pending.add(request.name)
        if request.goal in _DESIRED:
            ledger = self._node.ledger
            entry = ledger.get(request.name) or Entry(request.name, request.backend)
            await ledger.put(replace(entry, record=volume, desired=_DESIRED[request.goal]))

    async def _record_result(
        self, request: ConvergeRequest, convergence: Convergence, *, is_reached: bool
    ) -> None:
        ledger, goal, volume = self._node.ledger, request.goal, convergence.volume
        entry = ledger.get(request.name)
        if convergence.is_absent:
            if entry is not None and not entry.is_claimed:
                await ledger.forget(request.name)
        elif volume is not None:
            entry = replace(
                entry or Entry(request.name, volume.backend), backend=volume.backend, record=volume
            )
            is_unwanted = entry.desired is Desired.NONE and not entry.is_claimed
            if goal is Goal.MOUNTED and convergence.is_attached_here and is_unwanted:
                # Attached by a previous process whose ledger is lost; the failed Mount detaches it.
                entry = replace(entry, desired=Desired.DETACHED)
            elif is_reached and goal is Goal.DETACHED:
                entry = replace(entry, desired=Desired.NONE).without_failure(*_RELEASES)
            elif is_reached and goal is Goal.PRESENT:
                entry = replace(entry, desired=Desired.MOUNTED if entry.is_claimed else Desired.NONE)
            await ledger.put(entry)
