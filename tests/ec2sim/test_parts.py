"""Defects of the simulated EC2, and clients that disconnect."""

import socket
import struct
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from tests.ec2sim import Slow
from tests.ec2sim.listening import HttpAnswer, HttpRequest, Listener
from tests.ec2sim.scheduler import Scheduler
from tests.lab.waiting import wait_until


def test_a_change_that_fails_does_not_prevent_others(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, made = Scheduler(), threading.Event()

    def fail() -> None:
        raise OSError("no device")

    try:
        for key, action in (("one", fail), ("other", made.set)):
            scheduler.begin(key, Slow(seconds=0.001), action)
        scheduler.settle(30)
        assert made.is_set()
        wait_until(lambda: "a change of one failed" in caplog.text, 30, "the failure is logged")
    finally:
        scheduler.close()


def test_a_defect_is_an_answer_and_not_a_slow_network(caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: HttpRequest) -> HttpAnswer:
        raise RuntimeError("defect")

    listener = Listener("127.0.0.1", answer)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{listener.url}/here", timeout=30)  # noqa: S310 - the listener's own
        with caught.value as error:
            assert (error.code, error.read()) == (500, b"the simulated EC2 has a defect, see its log")
    finally:
        listener.close()
    assert "GET /here failed" in caplog.text


def test_a_client_that_hangs_up_harms_no_other() -> None:
    listener = Listener("127.0.0.1", lambda _: HttpAnswer(200))
    try:
        server = urlsplit(listener.url)
        with socket.create_connection((server.hostname, server.port)) as client:
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # a reset instead of a regular end
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        with urllib.request.urlopen(listener.url, timeout=30) as answer:  # noqa: S310 - the listener's own
            assert answer.status == 200
    finally:
        listener.close()


def test_the_end_of_a_listener_ends_idle_connections() -> None:
    listener = Listener("127.0.0.1", lambda _: HttpAnswer(200))
    server = urlsplit(listener.url)
    with socket.create_connection((server.hostname, server.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        listener.close()
        while client.recv(4096):
            pass
