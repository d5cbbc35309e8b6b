"""The faults and delays of the simulated EC2."""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tests.ec2sim.refusals import INTERNAL_ERROR, THROTTLED, UNAVAILABLE, Refusal


@dataclass(frozen=True, slots=True)
class Slow:
    """How long a state lasts before the next.

    Attributes:
        seconds: At least that long.
        looks: At least until that many DescribeVolumes have read it.
    """

    seconds: float = 0.0
    looks: int = 0


Fault = str | Refusal
"""throttled, error, unavailable or dropped: without effect; lost or closed: after it; or a `Refusal`."""
_WITHOUT_EFFECT: Final[Mapping[Fault, Fault]] = {
    "throttled": THROTTLED,
    "error": INTERNAL_ERROR,
    "unavailable": UNAVAILABLE,
}


@dataclass
class FaultPlan:
    """Faults and delays; every field may be changed at any time.

    Attributes:
        latency_s: How long every call takes at least.
        throttle_rate: Share of calls answered 503 RequestLimitExceeded, without effect.
        error_rate: Share of calls answered 500 InternalError or 503 Unavailable, without effect.
        lost_answer_rate: Share of calls that have their effect and are answered 500.
        closed_rate: Share of calls that have their effect and get no answer.
        faulty_actions: The actions that the rates are for; empty: all.
        script: Faults of the next calls of an action, in order; "" lets one pass.
        denied: Actions that the credentials do not allow.
        dry_runs_ignored: Actions that carry out what was a dry run, as an endpoint that does not know it may.
        clock_ahead_s: How far EC2's clock is ahead of this machine's.
        stale_looks: The fewest and the most stale reads after a change: DescribeVolumes that show a volume as
            it was before, or DescribeInstances an instance.
        stale_after: The actions whose changes are followed by stale reads; empty: all.
        creating: How long a new volume is not yet available.
        attaching: How long until a volume counts as attached.
        detaching: How long until it is gone from its instance.
        deleting: How long until a deleted volume is gone.
        stopping: How long until an instance has stopped or started.
        stops_by_hand: Whether a stopping instance waits until the test sets it to stopped.
        device: When the device appears: "before" the API shows attached (at once), "with" it, or "after" it.
        device_lag_s: How much later, for "after".
        impaired_instances: Running instances whose status checks fail.
        stuck_volumes: Volumes that stay attaching forever, without a device.
        stuck_devices: Device names with the same effect.
        busy_volumes: Volumes that count as used by their guest, so that they stay busy when detached.
        creation_ends: What new volumes become: available, error or gone.
        bad_kms_keys: Keys that cannot be used: volumes with them end as error.
    """

    latency_s: float = 0.0
    throttle_rate: float = 0.0
    error_rate: float = 0.0
    lost_answer_rate: float = 0.0
    closed_rate: float = 0.0
    faulty_actions: frozenset[str] = frozenset()
    script: dict[str, list[Fault]] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    dry_runs_ignored: frozenset[str] = frozenset()
    clock_ahead_s: float = 0.0
    stale_looks: tuple[int, int] = (0, 0)
    stale_after: frozenset[str] = frozenset()
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

    def set(self, **changes: Any) -> None:  # noqa: ANN401 - one type for each field
        """Change some fields.

        Raises:
            ValueError: If there is no such field.
        """
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"a fault plan has no {', '.join(sorted(unknown))}")
        for name, value in changes.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)  # a list comes from JSON

    def end(self) -> None:
        """Reset the plan to no faults and no delays."""
        self.set(**vars(FaultPlan()))


class Faults:
    """Draws faults by the plan; the n-th call of an action always gets the same one by the same rates."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def draw(self, action: str) -> Fault:
        """Return the fault of the next call of an action, a `Refusal` where it has no effect; or ""."""
        with self._lock:
            self._calls[action] += 1
            number = self._calls[action]
            script = self._plan.script.get(action)
            fault = script.pop(0) if script else self._draw_by_rates(action, number)
        return _WITHOUT_EFFECT.get(fault, fault)

    def _draw_by_rates(self, action: str, number: int) -> Fault:
        plan = self._plan
        if plan.faulty_actions and action not in plan.faulty_actions:
            return ""
        drawn = random.Random(f"{action}:{number}").random()  # noqa: S311 - deterministic
        rates = {
            "throttled": plan.throttle_rate,
            "error": plan.error_rate / 2,
            "unavailable": plan.error_rate / 2,
            "lost": plan.lost_answer_rate,
            "closed": plan.closed_rate,
        }
        for fault, rate in rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return ""
