"""Batches concurrent look-ups into one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


class Batcher(Generic[_Key, _Found]):
    """Collects keys for some milliseconds and looks them up in one call.

    A key that is requested while a look-up runs is looked up again, so no result is older than its request.

    Args:
        look_up: Looks many keys up, in one call; its result has all of them.
        collect_s: How long keys are collected, in seconds.
        largest: The largest number of keys in one call.
    """

    def __init__(
        self,
        look_up: Callable[[Collection[_Key]], Awaitable[Mapping[_Key, _Found]]],
        collect_s: float,
        largest: int,
    ) -> None:
        self._look_up = look_up
        self._collect_s = collect_s
        self._largest = largest
        self._asked: dict[_Key, asyncio.Future[_Found]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, key: _Key) -> _Found:
        """Return the result for a key. An error of the look-up is raised to all callers of the batch."""
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
            if len(self._asked) == 1:
                self._begin(self._collect())
        return await asyncio.shield(self._asked[key])

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _collect(self) -> None:
        await asyncio.sleep(self._collect_s)
        asked, self._asked = list(self._asked.items()), {}
        for at in range(0, len(asked), self._largest):
            self._begin(self._answer(dict(asked[at : at + self._largest])))

    async def _answer(self, asked: Mapping[_Key, asyncio.Future[_Found]]) -> None:
        try:
            found = await self._look_up(asked.keys())
        except Exception as error:  # raised to all callers of the batch
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # the caller may have been cancelled
        else:
            for key, answer in asked.items():
                answer.set_result(found[key])
