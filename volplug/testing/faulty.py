"""A driver in front of a driver that is slow, fails, and answers what was true a moment ago, as clouds do.

Which calls suffer is decided by a seed, so that a failure can be run again. Every fault is one that real
backends show: a call that fails before it did anything, one that did it but whose answer got lost, and a
look-up that does not know yet of a change. That a volume exists or is gone is known at once: `get` has to be
sure of it, so drivers of backends that are not have to wait until they are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from volplug.drivers.base import Driver, DriverInfo, Holder, TakesOver
from volplug.errors import BackendUnavailable, Unsupported
from volplug.models import FilesystemTag, MountSource, Volume, VolumeSpec

HEARD_LATE: Final = frozenset({"attach", "detach", "tag_filesystem"})
_T = TypeVar("_T")


@dataclass
class FaultPlan:
    """What goes wrong, and how often.

    Attributes:
        seed: The same seed and the same calls give the same faults.
        latency_s: The longest that a call is held up.
        error_rate: Share of calls that fail and had no effect.
        lost_answer_rate: Share of changes that had their effect and fail all the same.
        stale_looks: How many look-ups after a change may still show what was before it.
        stale_after: The changes of which look-ups hear late, out of `HEARD_LATE`.
        errors: How often a call failed; for tests that want to know.
        stale_answers: How often a look-up showed what was before.
    """

    seed: int = 0
    latency_s: float = 0.0
    error_rate: float = 0.0
    lost_answer_rate: float = 0.0
    stale_looks: int = 0
    stale_after: frozenset[str] = HEARD_LATE
    errors: int = 0
    stale_answers: int = 0

    def end(self) -> None:
        """Let everything go well from now on."""
        self.latency_s = self.error_rate = self.lost_answer_rate = 0.0
        self.stale_looks = 0


@dataclass
class _Before:
    """What look-ups show of a volume for a while: how it was before its last change."""

    volume: Volume
    looks: int


@dataclass
class FaultyDriver:
    """See `volplug.drivers.base.Driver` for the contract, of which nothing but success is taken away.

    Attributes:
        driver: The driver that does the work.
        plan: What goes wrong; may be changed at any time.
    """

    driver: Driver
    plan: FaultPlan
    _random: random.Random = field(init=False)
    _before: dict[str, _Before] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.plan.seed)  # noqa: S311 - it has to be foreseeable

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return self.driver.info

    @property
    def node_id(self) -> str:
        """Return how the backend knows this host."""
        return self.driver.node_id

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check a spec; asks no backend, so nothing goes wrong."""
        self.driver.check_spec(spec)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume."""
        return await self._change("create", spec.name, lambda: self.driver.create(spec))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume."""
        await self._change("delete", volume.name, lambda: self.driver.delete(volume))

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name, or how it was before its last change."""
        await self._suffer("get")
        if self._is_stale(name):
            return self._before[name].volume
        return await self.driver.get(name)

    async def list(self) -> Sequence[Volume]:
        """Return all volumes, some of them as they were before their last change."""
        await self._suffer("list")
        volumes = {volume.volume_id: volume for volume in await self.driver.list()}
        for name in sorted(self._before):
            if self._is_stale(name):
                before = self._before[name].volume
                volumes[before.volume_id] = before
        return list(volumes.values())

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume to this host."""
        return await self._change("attach", volume.name, lambda: self.driver.attach(volume))

    async def locate(self, volume: Volume) -> MountSource | None:
        """Return the device of a volume; asks this host, so nothing goes wrong."""
        return await self.driver.locate(volume)

    async def detach(self, volume: Volume) -> None:
        """Detach a volume from this host."""
        await self._change("detach", volume.name, lambda: self.driver.detach(volume))

    async def tag_filesystem(self, volume: Volume, tag: FilesystemTag) -> Volume:
        """Record the filesystem tag."""
        return await self._change(
            "tag_filesystem", volume.name, lambda: self.driver.tag_filesystem(volume, tag)
        )

    async def holder_state(self, node_id: str) -> Holder:
        """Tell whether a node is alive."""
        await self._suffer("holder_state")
        return await self.driver.holder_state(node_id)

    async def take_from(self, volume: Volume, node_id: str) -> None:
        """Take a volume from a dead node."""
        driver = self._taking_over()
        await self._change("take_from", volume.name, lambda: driver.take_from(volume, node_id))

    async def fence(self, node_id: str) -> None:
        """Stop a node."""
        await self._suffer("fence")
        await self._taking_over().fence(node_id)

    def _taking_over(self) -> TakesOver:
        if not isinstance(self.driver, TakesOver):
            raise Unsupported(f"driver {self.info.driver} cannot take volumes from other nodes")
        return self.driver

    async def health(self) -> None:
        """Return if the backend can be used."""
        await self._suffer("health")
        await self.driver.health()

    async def _suffer(self, call: str) -> None:
        """Hold a call up, and let some fail before they have done anything."""
        await asyncio.sleep(self._random.uniform(0, self.plan.latency_s))
        if self._random.random() < self.plan.error_rate:
            raise self._error(f"{call} was throttled")

    async def _change(self, call: str, name: str, action: Callable[[], Awaitable[_T]]) -> _T:
        await self._suffer(call)
        before = await self.driver.get(name) if self.plan.stale_looks else None
        result = await action()
        self._before.pop(name, None)
        if before is not None and call in self.plan.stale_after & HEARD_LATE:
            self._before[name] = _Before(before, self._random.randint(0, self.plan.stale_looks))
        if self._random.random() < self.plan.lost_answer_rate:
            raise self._error(f"the answer to {call} was lost")
        return result

    def _is_stale(self, name: str) -> bool:
        before = self._before.get(name)
        if before is None or not before.looks or not self.plan.stale_looks:
            return False
        before.looks -= 1
        self.plan.stale_answers += 1
        return True

    def _error(self, cause: str) -> BackendUnavailable:
        self.plan.errors += 1
        return BackendUnavailable(cause, "Try again")
