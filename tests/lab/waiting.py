"""Waiting for a condition that another process fulfils, never for an amount of time."""

import time
from collections.abc import Callable

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1


class WaitTimeoutError(RuntimeError):
    """The condition did not come true in time."""


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as ``condition()`` is true; raise WaitTimeoutError naming ``what`` after ``timeout_s``.

    The condition may raise to give up early. It is checked once more after the deadline, so that a
    busy machine does not fail a condition that is true by then.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while not condition():
        if time.monotonic() > deadline:
            if condition():
                return
            raise WaitTimeoutError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
