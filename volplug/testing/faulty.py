"""A wrapper that makes a driver slow, lets its calls fail, and serves stale reads, as clouds do.

A seed decides which calls are affected, so that a failure can be reproduced. Every fault is one of real
backends: a call that fails without an effect, one whose response is lost after its effect, and a stale read.
Existence is never stale, because `Driver.get` has to be exact about it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from volplug.drivers.base import CAPABILITIES, Driver, DriverInfo, Holder
from volplug.errors import BackendUnavailable
from volplug.models import FilesystemTag, MountSource, Volume, VolumeSpec

READ_STALE: Final = frozenset({"attach", "detach", "tag_filesystem"})
# Of the capabilities, without take_from.
_MAY_FAIL: Final = frozenset({"wait_settled", "limits", "fence", "received", "send_to", "receive", "adopt"})
_T = TypeVar("_T")


@dataclass
class FaultPlan:
    """The kinds of faults, and how often they occur.

    Attributes:
        seed: The same seed and the same calls give the same faults.
        latency_s: The longest delay of a call.
        error_rate: Share of calls that fail without an effect.
        lost_answer_rate: Share of changes that fail after their effect.
        stale_reads: How many look-ups after a change may still show the state before it.
        stale_after: The changes after which reads may be stale, out of `READ_STALE`.
        errors: How many calls have failed so far.
        stale_answers: How many reads have been stale so far.
    """

    seed: int = 0
    latency_s: float = 0.0
    error_rate: float = 0.0
    lost_answer_rate: float = 0.0
    stale_reads: int = 0
    stale_after: frozenset[str] = READ_STALE
    errors: int = 0
    stale_answers: int = 0

    def end(self) -> None:
        """End all faults."""
        self.latency_s = self.error_rate = self.lost_answer_rate = 0.0
        self.stale_reads = 0


@dataclass
class _Before:
    """A volume as it was before its last change, for a number of stale reads."""

    volume: Volume
    reads_left: int


@dataclass
class FaultyDriver:
    """A driver with faults. It keeps the contract of `volplug.drivers.base.Driver`, capabilities included.

    Attributes:
        driver: The driver behind it.
        plan: The faults; may be changed at any time.
    """

    driver: Driver
    plan: FaultPlan
    _random: random.Random = field(init=False)
    _before: dict[str, _Before] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.plan.seed)  # noqa: S311 - it has to be deterministic
        # Attributes of the object, so that it has those capabilities, and only those, that the driver has.
        for capability in (each for each in CAPABILITIES if isinstance(self.driver, each)):
            for call in (name for name in vars(capability) if not name.startswith("_")):
                setattr(self, call, self._of_capability(call))

    @property
    def info(self) -> DriverInfo:
        """Return the driver's constants."""
        return self.driver.info

    @property
    def node_id(self) -> str:
        """Return the backend's id of this host."""
        return self.driver.node_id

    def check_spec(self, spec: VolumeSpec) -> None:
        """Check a spec; without faults, as no backend is called."""
        self.driver.check_spec(spec)

    async def create(self, spec: VolumeSpec) -> Volume:
        """Create a volume."""
        return await self._change("create", spec.name, lambda: self.driver.create(spec))

    async def delete(self, volume: Volume) -> None:
        """Delete a volume."""
        await self._change("delete", volume.name, lambda: self.driver.delete(volume))

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name, which may be stale."""
        await self._inject_fault("get")
        if self._is_stale(name):
            return self._before[name].volume
        return await self.driver.get(name)

    async def list(self) -> Sequence[Volume]:
        """Return all volumes, some of which may be stale."""
        await self._inject_fault("list")
        volumes = {volume.volume_id: volume for volume in await self.driver.list()}
        for name in sorted(self._before):
            if self._is_stale(name):
                before = self._before[name].volume
                volumes[before.volume_id] = before
        return list(volumes.values())

    async def attach(self, volume: Volume) -> MountSource:
        """Attach a volume to this host."""
        return await self._change("attach", volume.name, lambda: self.driver.attach(volume))

    def locate(self, volume: Volume) -> MountSource | None:
        """Return the device of a volume; without faults, as only this host is asked."""
        return self.driver.locate(volume)

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
        await self._inject_fault("holder_state")
        return await self.driver.holder_state(node_id)

    async def health(self) -> None:
        """Check that the backend can be used."""
        await self._inject_fault("health")
        await self.driver.health()

    def _of_capability(self, call: str) -> Callable[..., object]:
        """Return a call of a capability, with faults if it calls the backend and may fail."""
        method = getattr(self.driver, call)

        async def take_from(volume: Volume, node_id: str) -> None:
            await self._change(call, volume.name, lambda: method(volume, node_id))

        async def faulty(*arguments: object) -> object:
            await self._inject_fault(call)
            return await method(*arguments)

        if call == "take_from":
            return take_from
        return faulty if call in _MAY_FAIL else method

    async def _inject_fault(self, call: str) -> None:
        """Delay a call, and let some fail before they have an effect."""
        await asyncio.sleep(self._random.uniform(0, self.plan.latency_s))
        if self._random.random() < self.plan.error_rate:
            raise self._error(f"{call} was throttled")

    async def _change(self, call: str, name: str, action: Callable[[], Awaitable[_T]]) -> _T:
        await self._inject_fault(call)
        before = await self.driver.get(name) if self.plan.stale_reads else None
        result = await action()
        self._before.pop(name, None)
        if before is not None and call in self.plan.stale_after & READ_STALE:
            self._before[name] = _Before(before, self._random.randint(0, self.plan.stale_reads))
        if self._random.random() < self.plan.lost_answer_rate:
            raise self._error(f"the answer to {call} was lost")
        return result

    def _is_stale(self, name: str) -> bool:
        before = self._before.get(name)
        if before is None or not before.reads_left or not self.plan.stale_reads:
            return False
        before.reads_left -= 1
        self.plan.stale_answers += 1
        return True

    def _error(self, cause: str) -> BackendUnavailable:
        self.plan.errors += 1
        return BackendUnavailable(cause, "Try again")
