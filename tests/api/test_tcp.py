"""The control API on TCP: TLS, tokens, certificates, roles, and the Host header."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from tests.api.certificates import Authority
from tests.api.serving import Api, serving
from tests.api.tls_site import Site
from tests.volumes.world import World
from volplug.api.access import make_token
from volplug.control_tls import TlsListener
from volplug.handlers.control.access import tls_context
from volplug.host.reread import FromFiles
from volplug.host.threads import Pool
from volplug.server import SocketServer

pytestmark = pytest.mark.api

# OpenSSL would ask for its password at the terminal.
_ENCRYPTED_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"password"),
)


@pytest.fixture
async def served(world: World, site: Site) -> AsyncIterator[Site]:
    async with serving(world.service, site.settings):
        yield site


def _bearer(token: str, **others: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **others}


async def test_roles_of_tokens_permit_what_they_say(served: Site) -> None:
    async with served.client() as client:
        for token, written in ((served.reader, 403), (served.admin, 404)):
            assert (await client.call("GET", "/v1/version", headers=_bearer(token))).status == 200
            answer = await client.call("DELETE", "/v1/volumes/v", headers=_bearer(token))
            assert answer.status == written


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer volplug_wrong",
        "Basic TOKEN",
        "TOKEN",
        "Bearer TOKEN TOKEN",
        "Bearer tOKEN",
    ],
)
async def test_a_wrong_or_missing_token_is_refused(served: Site, authorization: str) -> None:
    authorization = authorization.replace("TOKEN", served.admin).replace("tOKEN", served.admin.swapcase())
    async with served.client() as client:
        for headers in ({"Authorization": authorization}, {}):
            for path in ("/v1/version", "/v1/none"):
                with capture_logs() as logs:
                    answer = await client.call("GET", path, headers=headers)
                assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert served.admin not in str(logs)
                assert [line["peer"] for line in logs] == ["127.0.0.1"]


async def test_certificates_are_known_by_their_names(served: Site) -> None:
    expected = {"viewer": (200, 403), "node2": (200, 404), "other": (401, 401)}
    for name, (read, written) in expected.items():
        async with served.client(served.authority.issue(name)) as client:
            assert (await client.get("/v1/version")).status == read
            assert (await client.call("DELETE", "/v1/volumes/v")).status == written


async def test_a_wrong_token_is_not_made_good_by_a_certificate(served: Site) -> None:
    async with served.client(served.authority.issue("node2")) as client:
        assert (await client.call("GET", "/v1/version", headers=_bearer("wrong"))).status == 401


async def test_an_expired_certificate_and_one_of_another_authority_are_refused(
    served: Site, directory: Path
) -> None:
    (directory / "other").mkdir()
    expired = served.authority.issue("node2", lasts=timedelta(days=-1))
    foreign = Authority(directory / "other").issue("node2")
    for shown in (expired, foreign):
        async with served.client(shown) as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get("/v1/version")
    async with served.client() as client:
        assert (await client.call("GET", "/v1/version", headers=_bearer(served.reader))).status == 200


async def test_nothing_is_served_without_tls_or_with_an_old_one(served: Site) -> None:
    host, port = served.settings.control_address
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{host}:{port}/v1/version", headers=_bearer(served.reader))
    old = served.trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, port, ssl=old, server_hostname="localhost")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("node1.example.com", 200),
        ("127.0.0.1:443", 200),
        ("evil.example.com", 421),
        ("localhost.evil.example.com", 421),
        ("evil.example.com:localhost", 421),
        ("[localhost]", 200),
        ("[::1]", 421),
        ("", 421),
    ],
)
async def test_a_request_to_another_name_is_refused_whatever_it_shows(
    served: Site, host: str, status: int
) -> None:
    async with served.client() as client:
        answer = await client.call("GET", "/v1/version", headers=_bearer(served.admin, Host=host))
        assert answer.status == status
        assert status == 200 or answer.json["code"] == "wrong-host"


async def test_the_access_file_is_read_again_when_it_has_changed(served: Site) -> None:
    token, line = make_token("read", "new")
    async with served.client() as client:

        async def status(of: str) -> int:
            return (await client.call("GET", "/v1/version", headers=_bearer(of))).status

        assert [await status(token), await status(served.admin)] == [401, 200]
        served.access.write_text(f"nonsense\n{line}\n")
        assert [await status(token), await status(served.admin)] == [200, 401]
        served.access.chmod(0o620)
        assert await status(token) == 401
        served.access.chmod(0o600)
        assert await status(token) == 200
        served.access.unlink()
        assert await status(token) == 401
        served.access.write_text(line)
        served.access.chmod(0o600)
        assert await status(token) == 200


async def test_certificates_that_are_renewed_are_shown_to_new_clients(served: Site) -> None:
    async def serial() -> object:
        host, port = served.settings.control_address
        _, writer = await asyncio.open_connection(
            host, port, ssl=served.trusting(), server_hostname="localhost"
        )
        shown = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return shown

    before = await serial()
    assert await serial() == before
    assert served.settings.control_key is not None
    key = served.settings.control_key.read_bytes()
    served.settings.control_key.write_bytes(b"half written")
    assert await serial() == before
    served.settings.control_key.write_bytes(key)
    served.authority.issue("server")
    assert await serial() != before


@pytest.mark.parametrize("which", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", _ENCRYPTED_KEY])
def test_a_file_that_tls_cannot_use_is_named(directory: Path, which: str, content: bytes | None) -> None:
    authority = Authority(directory)
    pair, wrong = authority.issue("server"), directory / "wrong"
    if content is not None:
        wrong.write_bytes(content)
    files = {"certificate": pair.certificate, "key": pair.key, "client_ca": authority.pair.certificate}
    with pytest.raises(OSError, match=str(wrong)):
        tls_context(**{**files, which: wrong})


async def test_a_listener_that_cannot_be_made_leaves_the_socket_served(world: World, site: Site) -> None:
    for change in ({"control_cert": site.access}, {"control_listen": "192.0.2.1:1"}):
        settings = site.settings.model_copy(update=change)
        assert settings.control_socket is not None
        with capture_logs() as logs:
            async with serving(world.service, settings):
                connector = aiohttp.UnixConnector(str(settings.control_socket))
                async with aiohttp.ClientSession(connector=connector) as session:
                    assert (await Api(session).get("/v1/version")).status == 200
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["control API not served"]


async def test_handshakes_that_do_not_end_are_bounded(site: Site) -> None:
    async def greet(_: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    server, pair = SocketServer(greet), site.authority.issue("server")
    await server.start()
    listening = socket.create_server(("127.0.0.1", site.settings.control_address[1]), backlog=100)
    listening.setblocking(False)
    context = FromFiles(Pool("test", 1), (), lambda: tls_context(pair.certificate, pair.key, None))
    listener = TlsListener(listening, server.protocol, context, handshakes=4, handshake_s=0.1)
    silent = [await asyncio.open_connection(*site.settings.control_address) for _ in range(10)]
    async with site.client() as client:  # its turn comes when the silent ones have been closed
        assert (await client.get("/")).body == b"hello"
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()
    await listener.close()
    await server.stop()
