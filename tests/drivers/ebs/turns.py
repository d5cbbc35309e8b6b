"""Letting the event loop turn until something is so, and its clock go on."""

import asyncio
from collections.abc import Callable

import pytest


async def turns_until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # the condition has no event
        await asyncio.sleep(0)


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time be over for the event loop."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
