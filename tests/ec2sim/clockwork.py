"""State changes that take a while: by time, by how often they were looked at, or both."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from tests.ec2sim.plan import Slow

_THREADS: Final = 16
_LOG: Final = logging.getLogger(__name__)


@dataclass
class _Pending:
    """A change to come.

    Attributes:
        key: What it is a change of; one change of it can be under way.
        action: Makes the change. Blocks; is called once.
        looks: How many more looks it waits for.
        is_early: Whether its time has not yet come.
        is_awaited: Whether `settle` waits for it.
    """

    key: str
    action: Callable[[], None]
    looks: int
    is_early: bool
    is_awaited: bool


class Clockwork:
    """Makes changes when their time has come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, _Pending]] = []
        self._pending: dict[str, _Pending] = {}
        self._running = 0
        self._numbers = itertools.count()
        self._is_closed = False
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ec2-change")
        self._thread = threading.Thread(target=self._run, name="ec2-clockwork", daemon=True)
        self._thread.start()

    def begin(self, key: str, slow: Slow, action: Callable[[], None], *, is_awaited: bool = True) -> None:
        """Make a change later, in place of the one that is pending; at once and here if nothing is slow."""
        self.note(key, slow, action, is_awaited=is_awaited)()

    def note(
        self, key: str, slow: Slow, action: Callable[[], None], *, is_awaited: bool = True
    ) -> Callable[[], None]:
        """Do as `begin` does, but leave it to the caller to make the change if nothing is slow.

        Never blocks, so it can be called under the lock under which the change was decided; what it returns
        is to be called without.
        """
        pending = _Pending(key, action, slow.looks, slow.seconds > 0, is_awaited)
        with self._changed:
            self._pending[key] = pending
            if pending.is_early:
                due = time.monotonic() + slow.seconds
                heapq.heappush(self._due, (due, next(self._numbers), pending))
                self._changed.notify_all()
        return lambda: self._make_if_ready(pending)

    def looked(self, key: str) -> None:
        """Take note of a look, and make the change if it was the last that it waited for."""
        with self._changed:
            pending = self._pending.get(key)
            if pending is None:
                return
            pending.looks = max(0, pending.looks - 1)
        self._make_if_ready(pending)

    def cancel(self, key: str) -> None:
        """Do not make the pending change; one that has begun is made."""
        with self._changed:
            self._pending.pop(key, None)
            self._changed.notify_all()

    def settle(self, timeout_s: float) -> None:
        """Wait until no change is under way that comes by itself.

        Raises:
            TimeoutError: If some still are.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_settled, timeout_s):
                raise TimeoutError(f"after {timeout_s} s still pending: {', '.join(sorted(self._pending))}")

    def close(self) -> None:
        """Make no more changes, and wait for those that have begun."""
        with self._changed:
            self._is_closed = True
            self._pending.clear()
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown()

    def _is_settled(self) -> bool:
        waiting = (each for each in self._pending.values() if each.is_awaited and each.is_early)
        return not self._running and not any(waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._is_closed:
                    return
                if not self._due:
                    self._changed.wait()
                    continue
                wait_s = self._due[0][0] - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                pending = heapq.heappop(self._due)[2]
                if self._is_closed or self._pending.get(pending.key) is not pending:
                    continue
                self._running += 1  # from here to the end of the action, so that settle sees no gap
                pending.is_early = False
            self._pool.submit(self._make_in_thread, pending)

    def _make_in_thread(self, pending: _Pending) -> None:
        try:
            self._make_if_ready(pending)
        except Exception:  # nobody waits for it; the volume stays as it is, which tests see
            _LOG.exception("a change of %s failed", pending.key)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _make_if_ready(self, pending: _Pending) -> None:
        with self._changed:
            is_ready = not pending.is_early and not pending.looks
            if not is_ready or self._pending.get(pending.key) is not pending:
                return
            del self._pending[pending.key]
            self._running += 1
        try:
            pending.action()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
