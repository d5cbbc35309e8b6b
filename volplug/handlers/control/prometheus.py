"""Metrics in the text format of Prometheus. Imported on the first request for them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from volplug import __version__
from volplug.host.threads import PoolLoad
from volplug.metrics import Durations, Metrics
from volplug.volumes.monitor import MountedUsage, NodeGauges
from volplug.volumes.usage_sampler import UsageSample

_Values = Iterable[tuple[tuple[str, ...], float]]
_BY_BACKEND: Final = ("backend",)
_USAGE: Final = ("backend", "volume")
_VOLUME_GAUGES: Final[tuple[tuple[str, str, Callable[[UsageSample], float | None]], ...]] = (
    ("used_bytes", "Used space", lambda sample: sample.usage.used_bytes),
    ("free_bytes", "Space that containers can use", lambda sample: sample.usage.free_bytes),
    ("used_inodes", "Used inodes", lambda sample: sample.usage.used_inodes),
    ("inodes", "All inodes", lambda sample: sample.usage.inodes or None),
    ("usage_age_seconds", "How long ago all this was read", lambda sample: sample.age_s),
)


def rendered(metrics: Metrics, gauges: NodeGauges, pools: Sequence[PoolLoad]) -> bytes:
    """Return all metrics of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(metrics, gauges, pools))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class _Families(Collector):
    """What `NodeMonitor` reads, as families of metrics; docs/metrics.md describes each."""

    counted: Metrics
    gauges: NodeGauges
    pools: Sequence[PoolLoad]

    def collect(self) -> Iterator[Metric]:
        """Return the families."""
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("volplug_build", "The version of volplug", build)
        yield from self._of_work()
        yield from self._of_clouds()
        yield from self._of_volumes()
        yield from _of_usage(self.gauges.usages)
        yield _gauge(
            "volplug_volumes_without_usage",
            "Mounted volumes whose usage is not shown: their devices do not answer, or they are too many",
            (),
            [((), self.gauges.without_usage)],
        )
        yield from self._of_process()

    def _of_work(self) -> Iterator[Metric]:
        yield _durations(
            "volplug_operation_duration_seconds",
            "Ended operations",
            ("kind", "origin", "result"),
            self.counted.operations.items(),
        )
        yield _gauge(
            "volplug_operations_running",
            "Operations in progress",
            ("kind",),
            _by_one(self.gauges.running),
        )
        yield _durations(
            "volplug_step_duration_seconds",
            "Steps of operations, waits included",
            ("backend", "step"),
            self.counted.steps.items(),
        )

    def _of_clouds(self) -> Iterator[Metric]:
        yield _counter(
            "volplug_backend_calls",
            "Calls of clouds, each try",
            ("backend", "action", "result"),
            self.counted.tries.items(),
        )
        yield _counter(
            "volplug_backend_retries",
            "Tries of calls of clouds after the first",
            ("backend", "action"),
            self.counted.retries.items(),
        )

    def _of_volumes(self) -> Iterator[Metric]:
        for name, text, values in (
            ("attached", "Volumes attached here", self.gauges.attached),
            ("mounted", "Volumes mounted here", self.gauges.mounted),
        ):
            yield _gauge(f"volplug_volumes_{name}", text, _BY_BACKEND, _by_one(values))
        mounts = _by_one(self.gauges.mounts)
        yield _gauge("volplug_mounts", "Mounts that were not unmounted", _BY_BACKEND, mounts)
        yield _gauge(
            "volplug_volumes_not_as_desired",
            "Volumes whose desired state is not reached",
            ("backend", "desired", "failed"),
            [
                ((backend, desired, str(is_failed).lower()), n)
                for (backend, desired, is_failed), n in self.gauges.unreached.items()
            ],
        )

    def _of_process(self) -> Iterator[Metric]:
        yield _durations(
            "volplug_event_loop_lag_seconds",
            "How late the event loop was, sampled",
            (),
            [((), self.counted.loop_lag)],
        )
        threads = _by_one({pool.name: pool.threads for pool in self.pools})
        yield _gauge("volplug_pool_threads", "Threads that a pool may have", ("pool",), threads)
        calls = _by_one({pool.name: pool.calls for pool in self.pools})
        yield _gauge("volplug_pool_calls", "Calls that run or wait for a thread", ("pool",), calls)


def _of_usage(usages: Sequence[MountedUsage]) -> Iterator[Metric]:
    for name, text, value_of in _VOLUME_GAUGES:
        values = [
            ((each.backend, each.volume), value)
            for each in usages
            if (value := value_of(each.sample)) is not None
        ]
        yield _gauge(f"volplug_volume_{name}", f"{text}, of a mounted volume", _USAGE, values)


def _by_one(values: Mapping[str, int]) -> _Values:
    return [((key,), value) for key, value in values.items()]


def _gauge(name: str, text: str, labels: Sequence[str], values: _Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], values: _Values) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def _durations(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], Durations]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, durations in sorted(values, key=lambda each: each[0]):
        family.add_metric(key, durations.buckets(), durations.sum_s)
    return family
