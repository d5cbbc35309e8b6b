"""Delayed state changes: by time, by a number of reads, or both."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.ec2sim.plan import Slow

_LOG: Final = logging.getLogger(__name__)


@dataclass(eq=False)
class _Pending:
    """A change to come.

    Attributes:
        action: Makes the change. Blocks; is called once.
        reads: Reads that it still waits for.
        timer: Its timer; None after it has fired.
        is_awaited: Whether `settle` waits for it.
    """

    action: Callable[[], None]
    reads: int
    timer: threading.Timer | None
    is_awaited: bool

    @property
    def is_due(self) -> bool:
        return self.timer is None and self.reads == 0


class Scheduler:
    """Makes changes when they are due; each key has one pending change at most."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: dict[str, _Pending] = {}
        self._running = 0
        self._is_closed = False

    def begin(self, key: str, slow: Slow, action: Callable[[], None], *, is_awaited: bool = True) -> None:
        """Schedule a change, and make it here if nothing is slow."""
        self.schedule(key, slow, action, is_awaited=is_awaited)
        self.run_due(key)

    def schedule(self, key: str, slow: Slow, action: Callable[[], None], *, is_awaited: bool = True) -> None:
        """Schedule a change in place of the pending one; `run_due` makes it if nothing is slow.

        This never blocks, so it can be called under the lock under which the change was decided.
        """
        pending = _Pending(action, slow.looks, None, is_awaited)
        with self._changed:
            self.cancel(key)
            if self._is_closed:
                return
            self._pending[key] = pending
            if slow.seconds > 0:
                pending.timer = threading.Timer(slow.seconds, self._expire, (key, pending))
                pending.timer.daemon = True
                pending.timer.start()

    def run_due(self, key: str) -> None:
        """Make the pending change if it is due."""
        with self._changed:
            pending = self._pending.get(key)
            if pending is None or not pending.is_due:
                return
            del self._pending[key]
            self._running += 1
        try:
            pending.action()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def count_read(self, key: str) -> None:
        """Count a read of the state, and make the change if it was the last that it waited for."""
        with self._changed:
            pending = self._pending.get(key)
            if pending is not None:
                pending.reads = max(0, pending.reads - 1)
        self.run_due(key)

    def cancel(self, key: str) -> None:
        """Cancel the pending change; one that has begun is completed."""
        with self._changed:
            pending = self._pending.pop(key, None)
            if pending is not None and pending.timer is not None:
                pending.timer.cancel()
            self._changed.notify_all()

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until no change is running, due or waiting for its time.

        Raises:
            TimeoutError: If one still is.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_settled, timeout_s):
                raise TimeoutError(f"after {timeout_s} s still pending: {', '.join(sorted(self._pending))}")

    def close(self) -> None:
        """Make no more changes, and wait for those that have begun."""
        with self._changed:
            self._is_closed = True
            for key in list(self._pending):
                self.cancel(key)
            self._changed.wait_for(lambda: not self._running)

    def _is_settled(self) -> bool:
        awaited = [each for each in self._pending.values() if each.is_awaited]
        return not self._running and not any(each.timer or each.is_due for each in awaited)

    def _expire(self, key: str, pending: _Pending) -> None:
        with self._changed:
            if self._pending.get(key) is not pending:
                return
            pending.timer = None
            self._changed.notify_all()
        try:
            self.run_due(key)
        except Exception:  # in a thread of its own; the state stays as it is, which tests see
            _LOG.exception("a change of %s failed", key)
