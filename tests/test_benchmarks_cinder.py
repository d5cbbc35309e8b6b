"""The pure parts of the benchmark of volumes on Cinder, and its line, which counts calls."""

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.cinder.line import Line, action_of
from benchmarks.cinder.testbed import config_text
from benchmarks.report import changes_and_reads
from tests.lab.openstack.servers import Server
from volplug.config import load_settings
from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder.settings import load_settings as load_cinder_settings

_PROJECT = "0123456789abcdef0123456789abcdef"
_ID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", f"/v3/{_PROJECT}/volumes/{_ID}", "GET"),
        ("POST", f"/v3/{_PROJECT}/volumes", "POST /volumes"),
        ("DELETE", f"/v3/{_PROJECT}/volumes/{_ID}?cascade=false", "DELETE /volumes/ID"),
        (
            "DELETE",
            f"/v2.1/servers/{_ID}/os-volume_attachments/{_ID}",
            "DELETE /servers/ID/os-volume_attachments/ID",
        ),
    ],
)
def test_calls_are_counted_by_what_they_do(method: str, path: str, action: str) -> None:
    assert action_of(method, path) == action


def test_reads_of_cinder_and_nova_are_no_changes() -> None:
    assert changes_and_reads({"GET": 3.0, "POST /volumes": 1.0}) == "1 + 3 (1 POST /volumes)"


class _Service(BaseHTTPRequestHandler):
    """Refuses every call, with what it was asked for."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(409)
        self.send_header("X-Token", self.headers["X-Auth-Token"])
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_line_passes_calls_on_and_counts_them(service: int) -> None:
    line = Line("127.0.0.1")
    with line.to(service) as url:
        client = HTTPConnection(url.removeprefix("http://"))
        for _ in range(2):  # on one connection
            client.request("POST", "/v2.1/servers?x=y", b"body", {"X-Auth-Token": "t"})
            answer = client.getresponse()
            assert (answer.status, answer.headers["X-Token"]) == (409, "t")
            assert answer.read() == b"/v2.1/servers?x=y body"
        client.close()
    assert line.counts() == {"POST /servers": 2}


def test_the_configuration_file_names_the_server_and_nothing_that_the_driver_refuses(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    server = Server(_ID, "a", "node1", "/s", "/d", tmp_path)
    file.write_text(config_text(server, tmp_path / "clouds.yaml", poll_s=0.02, poll_later_s=0.02))
    settings = load_settings({"config": str(file)})
    backend = settings.configured_backends[settings.default_backend]
    assert (backend.driver, settings.cluster, settings.linger_s) == ("cinder", "bench", 0)
    config = BackendConfig("cinder", "node", settings.cluster, tmp_path, backend.model_extra or {})
    read = load_cinder_settings(config, {})
    assert (read.cloud, str(read.sys_root), read.poll_later_s) == ("demo", "/s", 0.02)
