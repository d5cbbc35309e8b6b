"""Which server of Nova this host is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.drivers.cinder.recorded import SERVERS, Answering, refusal
from volplug.drivers.cinder.openstack import Call
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cloud.identity import CloudNode
from volplug.errors import BackendUnavailable, ConfigurationError

ID = SERVERS["active"]["id"]
SWAPPED = str(UUID(bytes_le=UUID(ID).bytes))
OTHER = "7c1f2827-740c-4208-9e83-2f0eaf08d36f"


def nova() -> Answering:
    def show(call: Call) -> Mapping[str, Any] | Exception:
        known = call.path == f"/servers/{ID}"
        return {"server": SERVERS["active"]} if known else refusal("attach to a server that does not exist")

    return Answering({"GET /servers/ID": show})


class Place:
    """A host: its firmware, config drive and metadata service."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.endpoint = "http://127.0.0.1:9"  # discard: nothing listens

    def firmware(self, text: str) -> None:
        file = self.root / "sys/devices/virtual/dmi/id/product_uuid"
        file.parent.mkdir(parents=True)
        file.write_text(f"{text}\n")

    def config_drive(self, text: str) -> None:
        file = self.root / "config/openstack/latest/meta_data.json"
        file.parent.mkdir(parents=True)
        file.write_text(text)

    def server(self, caller: Answering, **more: str) -> ThisServer:
        settings = CinderSettings(
            cloud="c",
            sys_root=self.root / "sys",
            config_drive=self.root / "config",
            metadata_endpoint=self.endpoint,
            **more,  # type: ignore[arg-type]  # each is a text
        )
        return ThisServer(settings, caller)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def metadata_service(place: Place) -> Iterator[list[str]]:
    """Nova's metadata service; the list gets the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the server calls
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"uuid": ID, "name": "vm"}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        place.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield asked
        server.shutdown()


@pytest.mark.parametrize("shown", [ID, ID.upper(), SWAPPED])
async def test_firmware_shows_the_id_in_either_byte_order(place: Place, shown: str) -> None:
    place.firmware(shown)
    assert await place.server(nova()).get() == CloudNode(ID, "nova")


async def test_it_is_asked_once(place: Place) -> None:
    place.firmware(ID)
    caller = nova()
    server = place.server(caller)
    assert await server.get() == await server.get()
    assert len(caller.calls) == 1


@pytest.mark.parametrize("firmware", ["", "no UUID", OTHER])
async def test_the_config_drive_is_next(place: Place, firmware: str) -> None:
    if firmware:
        place.firmware(firmware)
    place.config_drive(json.dumps({"uuid": ID}))
    assert (await place.server(nova()).get()).node_id == ID


@pytest.mark.parametrize("drive", ["", "{", "[]", "{}", '{"uuid": 1}', json.dumps({"uuid": OTHER})])
async def test_the_metadata_service_is_last(place: Place, metadata_service: list[str], drive: str) -> None:
    place.config_drive(drive)
    assert (await place.server(nova()).get()).node_id == ID
    assert metadata_service == ["/openstack/latest/meta_data.json"]


async def test_the_setting_alone_is_believed(place: Place) -> None:
    place.firmware(ID)
    with pytest.raises(ConfigurationError, match=f"no server {OTHER} in this project"):
        await place.server(nova(), server_id=OTHER).get()
    assert (await place.server(nova(), server_id=ID).get()).node_id == ID


async def test_outside_of_openstack_the_error_says_what_to_set(place: Place) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await place.server(nova()).get()
    assert "server_id" in refused.value.remedy


async def test_after_an_outage_it_is_asked_again(place: Place) -> None:
    place.firmware(ID)
    caller = nova()
    answer = caller.answers["GET /servers/ID"]
    caller.answers["GET /servers/ID"] = BackendUnavailable("away")
    server = place.server(caller)
    with pytest.raises(BackendUnavailable):
        await server.get()
    assert server.known is None
    caller.answers["GET /servers/ID"] = answer
    assert (await server.get()).node_id == ID
