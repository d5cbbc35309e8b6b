"""Letting the event loop turn until something is so."""

import asyncio
from collections.abc import Callable


async def turns_until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
        await asyncio.sleep(0)
