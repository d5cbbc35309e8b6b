"""State changes that take a while: by time, by how often they were looked at, or both."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.ec2sim.plan import Slow

_LOG: Final = logging.getLogger(__name__)


@dataclass(eq=False)
class _Pending:
    """A change to come.

    Attributes:
        action: Makes the change. Blocks; is called once.
        looks: How many more looks it waits for.
        timer: What it waits for until its time has come; then None.
        is_awaited: Whether `settle` waits for it.
    """

    action: Callable[[], None]
    looks: int
    timer: threading.Timer | None
    is_awaited: bool


class Clockwork:
    """Makes changes when their time has come; one of each key can be under way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: dict[str, _Pending] = {}
        self._running = 0
        self._is_closed = False

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
        pending = _Pending(action, slow.looks, None, is_awaited)
        with self._changed:
            self.cancel(key)
            self._pending[key] = pending
            if slow.seconds > 0:
                pending.timer = threading.Timer(slow.seconds, self._make_in_time, (key, pending))
                pending.timer.daemon = True
                if not self._is_closed:
                    pending.timer.start()
        return lambda: self._make_if_ready(key, pending)

    def looked(self, key: str) -> None:
        """Take note of a look, and make the change if it was the last that it waited for."""
        with self._changed:
            pending = self._pending.get(key)
            if pending is None:
                return
            pending.looks = max(0, pending.looks - 1)
        self._make_if_ready(key, pending)

    def cancel(self, key: str) -> None:
        """Do not make the pending change; one that has begun is made."""
        with self._changed:
            pending = self._pending.pop(key, None)
            if pending is not None and pending.timer is not None:
                pending.timer.cancel()
            self._changed.notify_all()

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until no state changes by itself any more.

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
            for key in list(self._pending):
                self.cancel(key)
            self._changed.wait_for(lambda: not self._running)

    def _is_settled(self) -> bool:
        waiting = (each for each in self._pending.values() if each.is_awaited and each.timer is not None)
        return not self._running and not any(waiting)

    def _make_in_time(self, key: str, pending: _Pending) -> None:
        with self._changed:
            if self._pending.get(key) is not pending:
                return
            pending.timer = None
            self._running += 1  # from here to the end of the action, so that settle sees no gap
        with self._run():
            try:
                self._make_if_ready(key, pending)
            except Exception:  # nobody waits for it; the volume stays as it is, which tests see
                _LOG.exception("a change of %s failed", key)

    def _make_if_ready(self, key: str, pending: _Pending) -> None:
        with self._changed:
            if pending.timer is not None or pending.looks or self._pending.get(key) is not pending:
                return
            del self._pending[key]
            self._running += 1
        with self._run():
            pending.action()

    @contextmanager
    def _run(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
