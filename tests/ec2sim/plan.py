"""What goes wrong at the served EC2, and how slow it is."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tests.ec2sim.refusals import INTERNAL_ERROR, THROTTLED, UNAVAILABLE, Refusal

CHANGES: Final = frozenset(
    {"CreateVolume", "DeleteVolume", "AttachVolume", "DetachVolume", "CreateTags", "DeleteTags"}
    | {"StartInstances", "StopInstances", "TerminateInstances"}
)


@dataclass(frozen=True, slots=True)
class Slow:
    """How long a state lasts before the next.

    Attributes:
        seconds: At least so long.
        looks: At least until so many DescribeVolumes have shown it.
    """

    seconds: float = 0.0
    looks: int = 0


Fault = str | Refusal
"""throttled, error or dropped: without effect; lost or closed: after the effect; or a `Refusal`."""


@dataclass
class FaultPlan:
    """What goes wrong; every field may be changed at any time.

    Attributes:
        seed: The same seed and the same calls of an action give the same faults.
        latency_s: How long every call takes at least.
        latencies_s: The same for some actions, instead of `latency_s`.
        throttle_rate: Share of calls answered 503 RequestLimitExceeded, without effect.
        error_rate: Share of calls answered 500 InternalError or 503 Unavailable, without effect.
        lost_answer_rate: Share of calls that have their effect and are answered 500.
        closed_rate: Share of calls that have their effect and get no answer.
        suffering: The actions that the rates are for; empty: all.
        script: Faults of the next calls of an action, in order; "" lets one pass.
        denied: Actions that the credentials do not allow.
        stale_looks: The fewest and the most DescribeVolumes that show a volume as it was before a change, and
            DescribeInstances that do so of an instance.
        stale_after: The actions that they hear of late.
        creating: How long a new volume is not yet available.
        attaching: How long until a volume counts as attached.
        detaching: How long until it is gone from its instance.
        deleting: How long until a deleted volume is gone.
        stopping: How long until an instance has stopped, started or been terminated.
        stops_by_hand: Whether a stopping instance waits for the test to say that it has stopped.
        device: When the device comes: "before" the API says attached (at once), "with" it, or "after" it.
        device_lag_s: How much later, for "after".
        impaired_instances: Running instances whose status checks fail.
        stuck_volumes: Volumes that stay attaching for ever, without a device.
        stuck_devices: Device names that do the same.
        busy_volumes: Volumes that a guest seems to use, so that they stay busy when detached.
        creation_ends: What new volumes become: available, error or gone.
        bad_kms_keys: Keys that cannot be used: volumes with them end as error.
        burnt_tokens: What a ClientToken of a deleted volume gets: "refused" as EC2 does, or "answered" with
            the volume that is no more.
        has_silent_metadata: Whether the metadata service answers nothing, as where it is switched off.
        volume_limit: How many volumes there may be.
    """

    seed: int = 0
    latency_s: float = 0.0
    latencies_s: dict[str, float] = field(default_factory=dict)
    throttle_rate: float = 0.0
    error_rate: float = 0.0
    lost_answer_rate: float = 0.0
    closed_rate: float = 0.0
    suffering: frozenset[str] = frozenset()
    script: dict[str, list[Fault]] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    stale_looks: tuple[int, int] = (0, 0)
    stale_after: frozenset[str] = CHANGES
    creating: Slow = Slow()
    attaching: Slow = Slow()
    detaching: Slow = Slow()
    deleting: Slow = Slow()
    stopping: Slow = Slow()
    stops_by_hand: bool = False
    device: str = "with"
    device_lag_s: float = 0.0
    impaired_instances: frozenset[str] = frozenset()
    stuck_volumes: frozenset[str] = frozenset()
    stuck_devices: frozenset[str] = frozenset()
    busy_volumes: frozenset[str] = frozenset()
    creation_ends: str = "available"
    bad_kms_keys: frozenset[str] = frozenset()
    burnt_tokens: str = "refused"
    has_silent_metadata: bool = False
    volume_limit: int = 1_000_000

    def set(self, **changes: Any) -> None:  # noqa: ANN401 - one type for each field
        """Change some fields.

        Raises:
            ValueError: If there is no such field.
        """
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"a fault plan has no {', '.join(sorted(unknown))}")
        for name, value in changes.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)  # a list comes by JSON

    def end(self) -> None:
        """Let everything go well from now on."""
        self.set(**vars(FaultPlan(seed=self.seed)))


class Faults:
    """Chooses by the plan; the same seed gives the n-th call of an action the same fault."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._made: Counter[str] = Counter()
        self._lock = threading.Lock()

    def latency_s(self, action: str) -> float:
        """Return how long a call is held up."""
        return self._plan.latencies_s.get(action, self._plan.latency_s)

    def next(self, action: str) -> Fault:
        """Return what the next call of an action suffers, or an empty text."""
        with self._lock:
            self._made[action] += 1
            number = self._made[action]
            script = self._plan.script.get(action)
            if script:
                return script.pop(0)
        plan = self._plan
        if plan.suffering and action not in plan.suffering:
            return ""
        drawn = random.Random(f"{plan.seed}:{action}:{number}").random()  # noqa: S311 - foreseeable
        rates = {
            "throttled": plan.throttle_rate,
            "error": plan.error_rate,
            "lost": plan.lost_answer_rate,
            "closed": plan.closed_rate,
        }
        for fault, rate in rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return ""

    def refusal(self, fault: Fault) -> Refusal | None:
        """Return the error that a call gets instead of its effect, or None."""
        if fault == "throttled":
            return THROTTLED
        if fault == "error":
            with self._lock:
                self._made["error"] += 1
                return INTERNAL_ERROR if self._made["error"] % 2 else UNAVAILABLE
        return fault if isinstance(fault, Refusal) else None
