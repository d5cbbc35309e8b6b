import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from volplug.service_manager import ServiceManager


@pytest.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[socket.socket]:
    """The socket of a service manager, in the current directory: the path of a socket has to be short."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(0)
        yield listening


async def test_it_is_told_that_volplug_is_ready_and_stopping(manager: socket.socket) -> None:
    name = f"volplug-test-{os.getpid()}"
    manager.bind(f"\0{name}")
    told = ServiceManager({"NOTIFY_SOCKET": f"@{name}"})
    told.ready("serving")
    told.stopping()
    assert manager.recv(100) == b"READY=1\nSTATUS=serving"
    assert manager.recv(100) == b"STOPPING=1"
    with pytest.raises(BlockingIOError):
        manager.recv(100)


@pytest.mark.parametrize(("pid", "is_watched"), [("", True), (str(os.getpid()), True), ("1", False)])
async def test_the_watchdog_is_fed_by_the_event_loop_if_it_watches_this_process(
    manager: socket.socket, pid: str, is_watched: bool
) -> None:
    name = f"volplug-test-{os.getpid()}"
    manager.bind(f"\0{name}")
    environment = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "2000", "WATCHDOG_PID": pid}
    told = ServiceManager(environment)
    told.ready("serving")
    assert manager.recv(100).startswith(b"READY=1")
    if not is_watched:
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        return
    manager.settimeout(None)
    for _ in range(3):
        await _readable(manager)
        assert manager.recv(100) == b"WATCHDOG=1"


async def test_without_a_service_manager_nothing_happens() -> None:
    with capture_logs() as lines:
        for environment in ({}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"WATCHDOG_USEC": "?"}):
            told = ServiceManager(environment)
            told.ready("serving")
            told.stopping()
    assert lines == []


async def test_one_that_cannot_be_told_is_no_error(tmp_path: Path) -> None:
    with capture_logs() as lines:
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("serving")
    assert [line["event"] for line in lines] == ["service manager not told"]


async def _readable(receiving: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(receiving, ready.set)
    await asyncio.wait_for(ready.wait(), 10)
    loop.remove_reader(receiving)
