"""What a host asks of a metadata service."""

import socket
import threading
import urllib.error

import pytest

from tests.drivers.ebs.answering import Reply, answering
from volplug.drivers.cloud.identity import ask_metadata_service


def test_what_answers_but_does_not_speak_http_is_no_metadata_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(OSError, match="no response of HTTP"):
            ask_metadata_service(f"http://127.0.0.1:{server.getsockname()[1]}/latest")
        answering.join()


def test_a_refusal_leaves_no_connection_open() -> None:
    with answering(lambda _: Reply("no", 403)) as server, pytest.raises(urllib.error.HTTPError) as refused:
        ask_metadata_service(server.url)
    assert refused.value.closed
    assert refused.value.reason == "Forbidden"
