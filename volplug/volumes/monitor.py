"""What monitoring reads of this node: counts, gauges, the usage of mounted volumes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from volplug.metrics import Durations, Metrics
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import LocalNode
from volplug.volumes.readiness import Readiness
from volplug.volumes.usage_sampler import UsageSample, UsageSampler

MAX_VOLUMES: Final = 200  # whose usage is shown: each is a handful of time series
_LAG_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class MountedUsage:
    """The usage of one mounted volume."""

    backend: str
    volume: str
    sample: UsageSample


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGauges:
    """This node at one moment.

    Attributes:
        running: How many operations run, by kind.
        attached: How many volumes are attached here, by backend, as far as this host remembers.
        mounted: How many of them are mounted.
        mounts: How many Mounts were answered and not unmounted, by backend.
        unreached: How many volumes are not in their desired state yet, by backend, desired state, and whether
            the last try failed.
        usages: Of mounted volumes, by name; of `MAX_VOLUMES` at most.
        without_usage: How many mounted volumes are missing there.
    """

    running: Mapping[str, int]
    attached: Mapping[str, int]
    mounted: Mapping[str, int]
    mounts: Mapping[str, int]
    unreached: Mapping[tuple[str, str, bool], int]
    usages: Sequence[MountedUsage]
    without_usage: int


class LagProbe:
    """Measures how late the event loop runs what is due, from its first start on.

    Args:
        lag: Where the samples go.
    """

    def __init__(self, lag: Durations) -> None:
        self._lag = lag
        self._due_s: float | None = None

    def start(self) -> None:
        """Start, once."""
        if self._due_s is None:
            self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + _LAG_EVERY_S
        loop.call_at(self._due_s, self._sample)

    def _sample(self) -> None:
        self._lag.add(asyncio.get_running_loop().time() - (self._due_s or 0.0))
        self._schedule()


class NodeMonitor:
    """Reads this node for monitoring, without a long wait; gauges without a call of a backend.

    Args:
        node: What is read.
        usage: Samples mounted volumes.
        readiness: Whether it can do its work.

    Attributes:
        readiness: As given.
    """

    def __init__(self, node: LocalNode, usage: UsageSampler, readiness: Readiness) -> None:
        self.readiness = readiness
        self._node = node
        self._usage = usage
        self._probe = LagProbe(node.metrics.loop_lag)

    @property
    def metrics(self) -> Metrics:
        """Return what was counted."""
        return self._node.metrics

    async def gauges(self) -> NodeGauges:
        """Return this node as it is; a device that hangs has its last known usage, or none.

        From the first call on, the lag of the event loop is measured.
        """
        self._probe.start()
        node, entries = self._node, self._node.ledger.entries()
        mounted = sorted((each for each in entries if each.is_claimed), key=lambda each: each.name)
        usages = await self._usages(mounted[:MAX_VOLUMES])
        zeros = dict.fromkeys(node.backends, 0)
        return NodeGauges(
            running=Counter(each.kind for each in node.operations.running),
            attached=zeros | Counter(each.backend for each in entries if each.is_busy),
            mounted=zeros | Counter(each.backend for each in mounted),
            mounts=zeros | _mounts(mounted),
            unreached=Counter(
                (each.backend, each.desired.value, each.failure is not None)
                for each in entries
                if _is_unreached(each)
            ),
            usages=usages,
            without_usage=len(mounted) - len(usages),
        )

    async def _usages(self, entries: Sequence[Entry]) -> Sequence[MountedUsage]:
        """Return the usages that are known; the samples are taken at the same time."""
        node = self._node
        samples = await asyncio.gather(
            *(
                self._usage.sample(node.host(each.backend), each.name, node.target(each.name))
                for each in entries
            )
        )
        return [
            MountedUsage(each.backend, each.name, sample)
            for each, sample in zip(entries, samples, strict=True)
            if sample is not None
        ]


def _mounts(entries: Sequence[Entry]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for entry in entries:
        counts[entry.backend] += entry.mount_count
    return counts


def _is_unreached(entry: Entry) -> bool:
    """Tell whether something is still to be reached; a volume that is mounted for containers is not."""
    return entry.desired is not Desired.NONE and not (entry.desired is Desired.MOUNTED and entry.is_claimed)
