"""Calls a blocking SDK with retries: each try runs in a thread, retries and backoff in the event loop.

No work is in progress between two tries, so a call can be cancelled there at once. The SDK itself must make
only one try.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count
from typing import Final, TypeAlias, TypeVar

from volplug.errors import BackendUnavailable, ConfigurationError
from volplug.host.threads import Pool
from volplug.masking import masked
from volplug.metrics import OnTry, TryResult, uncounted

_T = TypeVar("_T")

Try: TypeAlias = Callable[[int], _T]
"""One try, which blocks; its argument is the number of earlier tries."""

# Docker waits 60 s for most responses, and a verb makes two or three calls; the share of one is a guess.
_BUDGET_S: Final = 25.0
# Doubled with each retry, as in AWS's standard mode:
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 5.0  # a guess: the budget has room for several; AWS's 20 s would use it up
_MESSAGE_LENGTH: Final = 150
_THREADS: Final = 64  # a guess: more calls at once than a host has volumes to attach, as a rule


class _OutOfTime(Exception):
    """The call's time budget is used up."""


@dataclass(frozen=True, slots=True)
class Sdk:
    """The SDK of a cloud.

    Attributes:
        cloud: Whose it is.
        module: What is imported.
        extra: Volplug's extra that installs it.
    """

    cloud: str
    module: str
    extra: str

    def is_installed(self) -> bool:
        """Tell whether it can be imported, without doing so, which is slow."""
        return find_spec(self.module) is not None

    def missing(self, why: str = "") -> ConfigurationError:
        """Return the error for an SDK that is not installed."""
        return ConfigurationError(
            f"the SDK of {self.cloud} is not installed: {why or f'no module named {self.module}'}",
            f"Install volplug with its extra: volplug[{self.extra}]",
        )


def fitting(message: str) -> str:
    """Return the message of a service as it fits into an error, without secrets."""
    text = masked(message).strip().rstrip(".")
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[: _MESSAGE_LENGTH - 3]}..."


class RetryingCaller:
    """Calls a service, and retries with exponential backoff and full jitter while it is unavailable.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ compares the kinds of jitter.

    Reads and changes have separate threads, so that reads that hang do not delay an attach.

    Args:
        service: Its name, for errors and the names of threads.
        max_retries: How many tries may follow the first.
        budget_s: No try begins after it; a change in progress ends by its own timeouts. That of a change
            begins with its turn: to wait for other changes of this host is no failure of the service.
        clock: Monotonic seconds; called in threads, too.
        sleep: Waits between tries.
        jitter: Returns a random number between two others.
        on_try: Told how each try ended.
    """

    def __init__(  # noqa: PLR0913  # what tests replace is given one by one
        self,
        service: str,
        max_retries: int,
        *,
        budget_s: float = _BUDGET_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
        on_try: OnTry = uncounted,
    ) -> None:
        self._service = service
        self._max_retries = max_retries
        self._budget_s = budget_s
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._on_try = on_try
        self._reading = Pool(f"{service}-reading", _THREADS)
        self._changing = Pool(f"{service}-changing", _THREADS)
        self._turns = asyncio.Semaphore(_THREADS)  # as many changes at once as there are threads for them

    async def call(
        self,
        action: str,
        make_try: Try[_T],
        *,
        changes: bool,
        is_repeatable: bool = True,
        within_s: float | None = None,
    ) -> _T:
        """Make a call and return its result.

        If cancelled during a try, a change ends when the try has ended. A read abandons the try at once, and
        also when the budget is used up.

        Args:
            action: The call's name, for errors.
            make_try: Makes one try. Its errors are raised at once, except `BackendUnavailable`.
            changes: Whether the call is a change, not a read.
            is_repeatable: Whether it may be made again after a try whose effect is unknown.
            within_s: No try begins later than this after the call, waiting for a thread included: for a
                change that rests on what was just read. By default a change has its turn and the budget.

        Raises:
            BackendUnavailable: If there is no result after all tries; the change may have been made.
        """
        budget_s = self._budget_s if within_s is None else within_s
        async with self._turns if changes and within_s is None else nullcontext():
            return await self._call(action, make_try, budget_s, changes=changes, is_repeatable=is_repeatable)

    async def _call(
        self, action: str, make_try: Try[_T], budget_s: float, *, changes: bool, is_repeatable: bool
    ) -> _T:
        begun_s = self._clock()
        ends_s = begun_s + budget_s
        last = BackendUnavailable(f"{self._service} did not answer {action}: no answer")
        for attempt in count():
            try:
                with self._counted(action, attempt):
                    this_try = partial(self._begin, make_try, attempt, ends_s)
                    if changes:
                        return await self._changing.to_the_end(this_try)
                    return await self._abandonable(this_try, ends_s)
            except _OutOfTime:
                break
            except BackendUnavailable as error:
                if attempt == self._max_retries or not is_repeatable:
                    raise
                last = error
            pause_s = self._jitter(0.0, min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
            if self._clock() + pause_s >= ends_s:
                break
            await self._sleep(pause_s)
        raise BackendUnavailable(f"{last.cause} for {self._clock() - begun_s:.0f} s", last.remedy) from last

    @contextmanager
    def _counted(self, action: str, attempt: int) -> Iterator[None]:
        """Report how the try in this context ends; one that was cancelled did not end."""
        try:
            yield
        except Exception as error:
            self._on_try(action, _result_of(error), attempt > 0)
            raise
        self._on_try(action, TryResult.OK, attempt > 0)

    def _begin(self, make_try: Try[_T], attempt: int, ends_s: float) -> _T:
        """Make a try in this thread, unless the budget was used up by waiting for the thread."""
        if self._clock() >= ends_s:
            raise _OutOfTime
        return make_try(attempt)

    async def _abandonable(self, this_try: Callable[[], _T], ends_s: float) -> _T:
        try:
            async with asyncio.timeout(ends_s - self._clock()) as limit:
                return await self._reading.blocking(this_try)
        except TimeoutError:
            if limit.expired():
                raise _OutOfTime from None
            raise


def _result_of(error: Exception) -> TryResult:
    if isinstance(error, BackendUnavailable):
        return TryResult.THROTTLED if error.is_throttled else TryResult.UNAVAILABLE
    return TryResult.UNAVAILABLE if isinstance(error, _OutOfTime) else TryResult.REFUSED
