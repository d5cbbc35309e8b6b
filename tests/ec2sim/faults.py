"""Which call suffers what."""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.ec2sim import refusals
from tests.ec2sim.plan import Fault, FaultPlan, Refusal


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
        return self._chosen(action, number)

    def _chosen(self, action: str, number: int) -> Fault:
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
        if isinstance(fault, Refusal):
            return fault
        if fault == "throttled":
            return refusals.THROTTLED
        if fault == "error":
            with self._lock:
                self._made["error"] += 1
                return refusals.INTERNAL_ERROR if self._made["error"] % 2 else refusals.UNAVAILABLE
        return None
