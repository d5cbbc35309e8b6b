"""A cloud in memory whose changes take time and may fail, in the order of Cinder and Nova.

A transition ends after some looks at the cloud, by any of its servers, or fails: an attach ends as available,
a detach as in use. Nova lists an attachment for some more looks after Cinder has ended it, and refuses any
attach until then. If the call that began a transition is interrupted, the transition goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.walks.ground import Ground
from tests.walks.laboratory import Laboratory, WatchedDriver
from tests.walks.memory_walk import MemoryWalk
from volplug.errors import BackendUnavailable, HostError, VolumeInUse
from volplug.models import MountSource, Volume, VolumeState


@dataclass(frozen=True)
class Plan:
    """How the next transition goes.

    Attributes:
        looks: After how many looks it ends.
        listed: After how many more looks Nova forgets the attachment.
        fails: Whether it ends as it began.
        is_interrupted: Whether the call that begins it gets no answer.
    """

    looks: int = 2
    listed: int = 1
    fails: bool = False
    is_interrupted: bool = False


@dataclass
class Transition:
    """A transition of a volume in progress: its end, and how many looks that is away."""

    looks: int
    end: Volume
    listed: int = 0


@dataclass
class Transitions:
    """The transitions of the volumes of a laboratory.

    Attributes:
        laboratory: With the volumes.
        plan: How the next one goes.
        running: Those in progress, by volume id.
        listed: Attachments that Nova has not forgotten: looks left and the server, by volume id.
    """

    laboratory: Laboratory
    plan: Plan = Plan()
    running: dict[str, Transition] = field(default_factory=dict)
    listed: dict[str, tuple[int, str]] = field(default_factory=dict)

    def begin(self, volume: Volume, during: VolumeState, end: Volume) -> Plan:
        """Begin a transition; the plan is used up."""
        plan, self.plan = self.plan, Plan()
        is_detach = during is VolumeState.DETACHING
        self.running[volume.volume_id] = Transition(
            plan.looks, volume if plan.fails else end, plan.listed if is_detach else 0
        )
        self._put(replace(volume, state=during))
        return plan

    def look(self) -> None:
        """Let a moment pass."""
        for volume_id, (left, server) in list(self.listed.items()):
            self.listed[volume_id] = (left - 1, server)
            if left <= 1:
                del self.listed[volume_id]
        for volume_id, transition in list(self.running.items()):
            transition.looks -= 1
            if transition.looks <= 0:
                del self.running[volume_id]
                self._end(volume_id, transition)

    def _end(self, volume_id: str, transition: Transition) -> None:
        current = self.laboratory.cloud.volumes.get(volume_id)
        if current is None:
            return
        if current.holder and not transition.end.holder and transition.listed:
            self.listed[volume_id] = (transition.listed, current.holder)
        end = transition.end
        self._put(replace(current, state=end.state, holder=end.holder))

    def _put(self, volume: Volume) -> None:
        self.laboratory.cloud.volumes[volume.volume_id] = volume


class TransitionDriver(WatchedDriver):
    """A server's view of it; attaches and detaches end settled, as those of the Cinder driver do."""

    def __init__(self, laboratory: Laboratory, node: str, transitions: Transitions) -> None:
        super().__init__(laboratory, node)
        self._transitions = transitions

    async def get(self, name: str) -> Volume | None:
        self._transitions.look()
        return await super().get(name)

    async def list(self) -> Sequence[Volume]:
        self._transitions.look()
        return await super().list()

    async def attach(self, volume: Volume) -> MountSource:
        self._cloud.record_call("attach")
        if (source := self.locate(volume)) is not None:
            return source
        await self._ended(volume)
        current = self._current(volume)
        if current.holder not in (None, self.node_id):
            raise VolumeInUse(f"node {current.holder} holds the volume", holder=current.holder)
        if volume.volume_id in self._transitions.listed:
            server = self._transitions.listed[volume.volume_id][1]
            raise VolumeInUse(f"Nova still lists it on {server}", holder=server)
        if current.holder is None:
            self._remember()
            in_use = replace(current, state=VolumeState.IN_USE, holder=self.node_id)
            self._interrupt(self._transitions.begin(current, VolumeState.ATTACHING, in_use))
            await self._ended(volume)
        if self._current(volume).holder != self.node_id:
            raise HostError("Nova failed to attach it")
        return self._source(current)

    async def detach(self, volume: Volume) -> None:
        self._cloud.record_call("detach")
        await self._ended(volume)
        current = self._current(volume)
        if current.holder != self.node_id:
            return
        self._remember()
        self._note_if_used(volume, "detached", [self.node_id])
        available = replace(current, state=VolumeState.AVAILABLE, holder=None)
        self._interrupt(self._transitions.begin(current, VolumeState.DETACHING, available))
        await self._ended(volume)
        if self._current(volume).holder == self.node_id:
            raise VolumeInUse("Nova failed to detach it, it is in use again", holder=self.node_id)
        while volume.volume_id in self._transitions.listed:
            await self._moment()

    async def take_from(self, volume: Volume, node_id: str) -> None:
        await self._ended(volume)
        await super().take_from(volume, node_id)

    async def delete(self, volume: Volume) -> None:
        if self._current(volume).state is not VolumeState.AVAILABLE:
            raise VolumeInUse(f"Cinder does not delete it: {self._current(volume).state}")
        await super().delete(volume)

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        """See `volplug.drivers.base.Settles`."""
        await self._ended(volume)
        return self._find(volume.volume_id)

    async def _ended(self, volume: Volume) -> None:
        while volume.volume_id in self._transitions.running:
            await self._moment()

    async def _moment(self) -> None:
        await asyncio.sleep(0)
        self._transitions.look()

    def _interrupt(self, plan: Plan) -> None:
        if plan.is_interrupted:
            raise BackendUnavailable("Nova did not answer")


class TransitionWalk(MemoryWalk):
    """Two hosts on such a cloud."""

    def grounds(self) -> Mapping[str, Ground]:
        found = super().grounds()
        self._transitions = Transitions(self._laboratory)
        for name, ground in found.items():
            ground.driver = TransitionDriver(self._laboratory, name, self._transitions)
        return found

    @rule(
        plan=st.builds(
            Plan,
            looks=st.integers(1, 6),
            listed=st.integers(0, 6),
            fails=st.booleans(),
            is_interrupted=st.booleans(),
        )
    )
    def next_transition_goes_like_this(self, plan: Plan) -> None:
        self._transitions.plan = plan

    def everything_works_again(self) -> None:
        super().everything_works_again()
        self._transitions.plan = Plan()
        while self._transitions.running or self._transitions.listed:
            self._transitions.look()
