"""The parts of the served EC2 that defects and clients in a hurry meet."""

import logging
import socket
import struct
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.ec2sim import MemoryHypervisor, Slow
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.conftest import INSTANCE, OTHER
from tests.ec2sim.listening import HttpAnswer, HttpRequest, Listener
from tests.lab.waiting import wait_until


def test_a_change_that_fails_keeps_no_other_from_being_made(caplog: pytest.LogCaptureFixture) -> None:
    clockwork, made = Clockwork(), threading.Event()

    def fail() -> None:
        raise OSError("no device")

    try:
        for key, action in (("one", fail), ("other", made.set)):
            clockwork.begin(key, Slow(seconds=0.001), action)
        clockwork.settle(30)
    finally:
        clockwork.close()
    assert made.is_set()
    assert "a change of one failed" in caplog.text


def test_a_defect_is_an_answer_and_not_a_slow_network(caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: HttpRequest) -> HttpAnswer:
        raise RuntimeError("defect")

    listener = Listener("127.0.0.1", answer)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{listener.url}/here", timeout=30)  # noqa: S310 - the listener's own
        with caught.value as error:
            assert (error.code, error.read()) == (500, b"the served EC2 has a defect, see its log")
    finally:
        listener.close()
    assert "GET /here failed" in caplog.text


def test_a_client_that_hangs_up_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    listener = Listener("127.0.0.1", lambda _: HttpAnswer(200))
    try:
        with socket.create_connection((listener.address, listener.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no end
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
        wait_until(lambda: "ended early" in caplog.text, 30, "the listener has noticed")
        with urllib.request.urlopen(listener.url, timeout=30) as answer:  # noqa: S310 - the listener's own
            assert answer.status == 200
    finally:
        listener.close()


def test_volumes_in_memory_are_shown_as_files_and_taken_from_where_they_are(tmp_path: Path) -> None:
    hypervisor = MemoryHypervisor(str(tmp_path))
    view = hypervisor.power_on(INSTANCE, "nitro")
    hypervisor.provision("vol-1", 1024**2)
    hypervisor.plug(INSTANCE, "vol-1", "/dev/sdf")
    assert [path.name for path in Path(view.dev_root).iterdir()] == ["nvme1n1"]
    with pytest.raises(RuntimeError, match=f"vol-1 is on {INSTANCE}, not on {OTHER}"):
        hypervisor.unplug(OTHER, "vol-1")
    assert hypervisor.plugged().keys() == {"vol-1"}
    assert hypervisor.unplug(INSTANCE, "vol-1")
    assert list(Path(view.dev_root).iterdir()) == []
    hypervisor.close()
