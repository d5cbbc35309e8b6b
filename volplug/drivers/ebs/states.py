"""Waiting for EC2's states: one slow poll for all volumes that anybody waits for, and none otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from volplug.drivers.ebs.lookups import Description
from volplug.errors import BackendUnavailable

_T = TypeVar("_T")
_SLOWER: Final = 1.5
Describe = Callable[[Iterable[str]], Awaitable[Mapping[str, Description]]]


@dataclass(eq=False)
class _Waiter:
    volume_id: str
    decide: Callable[[Description | None], Any]
    answer: asyncio.Future[Any]


class States:
    """The shared poll.

    Args:
        describe: Describes many volumes in one call.
        first_s: Until the first look for whoever begins to wait.
        longest_s: Longest pause between two looks.
    """

    def __init__(self, describe: Describe, first_s: float, longest_s: float) -> None:
        self._describe = describe
        self._first_s = first_s
        self._longest_s = longest_s
        self._waiters: set[_Waiter] = set()
        self._polling: asyncio.Task[None] | None = None
        self._pause_s = first_s

    async def until(
        self, volume_id: str, decide: Callable[[Description | None], _T | None], timeout_s: float
    ) -> _T | None:
        """Wait until a description decides something; return None after the time.

        Args:
            volume_id: Which volume to describe.
            decide: Gets each description, None where EC2 shows none. What it raises is raised here.
            timeout_s: How long to wait at most.
        """
        waiter = _Waiter(volume_id, decide, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._pause_s = self._first_s
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            await asyncio.wait({waiter.answer}, timeout=timeout_s)
            if not waiter.answer.done():
                return None
            decided: _T = waiter.answer.result()
            return decided
        finally:
            self._waiters.discard(waiter)
            if not waiter.answer.cancel() and not waiter.answer.cancelled():
                waiter.answer.exception()  # the time may have ended at the same moment
            if not self._waiters and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * _SLOWER, self._longest_s)
            waiting = list(self._waiters)
            try:
                shown = await self._describe({each.volume_id for each in waiting})
            except BackendUnavailable:
                continue  # it may come back before the waiting ends
            except Exception as error:  # no later look would do better
                for each in waiting:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each in waiting:
                _offer(each, shown.get(each.volume_id))


def _offer(waiter: _Waiter, description: Description | None) -> None:
    if waiter.answer.done():
        return
    try:
        decided = waiter.decide(description)
    except Exception as error:  # it is the answer of whoever waits
        waiter.answer.set_exception(error)
    else:
        if decided is not None:
            waiter.answer.set_result(decided)
