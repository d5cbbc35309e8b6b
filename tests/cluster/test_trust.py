"""What other nodes, and strangers, can do at the cluster's address; certificates renewed and revoked."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel
from structlog.testing import capture_logs

from tests.api.certificates import Authority, Pair
from tests.api.serving import Api
from tests.cluster.nodes import Node, eventually, peer_client, running
from tests.lab.etcd import ETCD, Etcd
from volplug.api import cluster_schemas as schemas
from volplug.api.access import Role
from volplug.api.routes import ROUTES
from volplug.cluster import authority
from volplug.cluster.membership import Membership
from volplug.cluster.peers import PeerCaller, unverified
from volplug.cluster.records import MemberRecord
from volplug.cluster.signer import allowed
from volplug.errors import InvalidRequest, JoinRefused, PeerInvalid, PeerUnreachable, VolplugError

pytestmark = ETCD

_OF_NODES = {
    "getVersion",
    "listNodes",
    "getNode",
    "getHealth",
    "getAuthority",
    "admitNode",
    "renewCertificate",
}
_OF_ALL = {"getAuthority", "admitNode"}


def test_what_nodes_may_do_is_little() -> None:
    assert {route.operation_id for route in ROUTES if route.permits(Role.NODE)} == _OF_NODES
    assert {route.operation_id for route in ROUTES if route.permits(Role.ANY)} == _OF_ALL
    # What a node gets for its name, no token of that name gets.
    assert {route.operation_id for route in ROUTES if not route.permits(Role.ADMIN)} == {"renewCertificate"}


async def test_every_route_asks_for_its_role(pair: tuple[Node, Node]) -> None:
    signer, second = pair
    for shown, permitted in ((second.identity, _OF_NODES), (None, _OF_ALL)):
        async with peer_client(signer, shown) as client:
            for route in ROUTES:
                path = route.path.format(name="x", backend="x", id="x")
                reply = await client.call(route.method, path)
                is_refused = reply.status == 403 and reply.json["code"] == "forbidden"
                assert is_refused == (route.operation_id not in permitted), (route, reply)


async def test_a_revoked_node_is_refused_at_once_also_on_an_open_connection(pair: tuple[Node, Node]) -> None:
    signer, second = pair
    async with peer_client(signer, second.identity) as client:
        assert (await client.get("/healthz")).status == 200
        assert (await signer.api.call("DELETE", "/v1/cluster/nodes/node2")).status == 204
        with capture_logs() as logs:
            reply = await client.get("/healthz")
        assert (reply.status, reply.json["code"]) == (401, "unauthenticated")
        assert [line["peer"] for line in logs if line["event"] == "call failed"] == ["127.0.0.1"]


async def test_other_nodes_learn_by_their_watch_of_a_node_that_is_revoked(
    directory: Path, pair: tuple[Node, Node]
) -> None:
    signer, second = pair
    third = await Node.made(directory, "node3")
    async with running(third):
        await third.join(await signer.token())
        async with peer_client(second, third.identity) as client:
            await eventually(lambda: _has_status(client, 200), "node2 knows node3")
            await signer.api.call("DELETE", "/v1/cluster/nodes/node3")
            await eventually(lambda: _has_status(client, 401), "node2 knows that node3 is revoked")


async def test_certificates_of_another_authority_expired_ones_and_another_name_are_refused(
    directory: Path, pair: tuple[Node, Node]
) -> None:
    signer, second = pair
    (directory / "other").mkdir()
    foreign = _one_file(await asyncio.to_thread(lambda: Authority(directory / "other").issue("node2")))
    files = signer.files()
    expired = await asyncio.to_thread(_signed, directory / "expired", files, "node2", timedelta(minutes=-1))
    for shown in (foreign, expired):
        async with peer_client(signer, shown) as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get("/healthz")
    # Signed by the authority, and yet none that a member may show.
    for name in ("node2", "node1", "none"):
        shown = await asyncio.to_thread(_signed, directory / f"of-{name}", files, name, timedelta(days=1))
        async with peer_client(signer, shown) as client:
            assert (await client.get("/healthz")).status == 401
    async with peer_client(signer, second.identity) as client:
        assert (await client.get("/healthz")).status == 200


async def test_a_certificate_is_renewed_and_the_old_one_is_accepted_until_the_next_is(
    pair: tuple[Node, Node], directory: Path
) -> None:
    signer, second = pair
    shown: list[Path] = []
    for _ in range(3):
        kept = directory / f"kept{len(shown)}"
        kept.write_bytes(second.identity.read_bytes())
        shown.append(kept)
        membership = await second.server.membership()
        await membership.renewal.renew_now()
        assert len((await signer.members())["node2"]["fingerprints"]) == 2
    statuses = []
    for each in (*shown, second.identity):
        async with peer_client(signer, each) as client:
            statuses.append((await client.get("/healthz")).status)
    assert statuses == [401, 401, 200, 200]
    await (await signer.server.membership()).renewal.renew_now()
    async with peer_client(signer, signer.identity) as client:  # which is used without a restart
        assert (await client.get("/healthz")).status == 200


async def test_a_certificate_that_ends_soon_is_renewed_at_the_start(
    pair: tuple[Node, Node], directory: Path, one_etcd: Etcd, cluster: str
) -> None:
    signer, second = pair
    await second.stop()
    files, lasts = signer.files(), timedelta(days=29)
    await asyncio.to_thread(_signed, second.identity, files, "node2", lasts)
    written = second.identity.read_text()
    member = MemberRecord(address=second.address, certificates=(allowed(written),))
    one_etcd.put(f"/volplug/{cluster}/members/node2", member.model_dump_json())
    await second.start()
    await eventually(lambda: _is_other(second, written), "the certificate is renewed")
    async with peer_client(signer, second.identity) as client:
        assert (await client.get("/healthz")).status == 200


async def test_a_node_gets_a_certificate_of_its_own_name_whatever_it_asks_for(
    pair: tuple[Node, Node],
) -> None:
    signer, second = pair
    _, request = await asyncio.to_thread(authority.make_request, "node1")
    async with peer_client(signer, second.identity) as client:
        reply = await client.call("POST", "/v1/cluster/renewal", {"request": request})
    assert _tls_names(reply.json["certificate"]) == [authority.tls_name("node2")]


async def test_a_member_that_calls_itself_a_signer_in_etcd_gets_no_signers_name(
    pair: tuple[Node, Node], one_etcd: Etcd, cluster: str
) -> None:
    signer, second = pair
    key = f"/volplug/{cluster}/members/node2"
    (written,) = one_etcd.values(key).values()
    record = MemberRecord.model_validate_json(written)
    one_etcd.put(key, record.model_copy(update={"is_signer": True}).model_dump_json())

    async def is_believed() -> bool:
        shown: bool = (await signer.members())["node2"]["is_signer"]
        return shown

    await eventually(is_believed, "node1 has read it")
    _, request = await asyncio.to_thread(authority.make_request, "node2")
    async with peer_client(signer, second.identity) as client:
        reply = await client.call("POST", "/v1/cluster/renewal", {"request": request})
    assert _tls_names(reply.json["certificate"]) == [authority.tls_name("node2")]
    await (await signer.server.membership()).renewal.renew_now()
    own = signer.identity.read_text().partition("-----BEGIN CERT")
    assert _tls_names("".join(own[1:])) == [authority.tls_name("node1"), authority.SIGNER]


class _Busy:
    """A membership whose signer has no answer yet."""

    def __init__(self) -> None:
        self.signer = self
        self.waiting = 0
        self.may_end = asyncio.Event()

    async def stop(self) -> None:
        self.may_end.set()

    async def admit(self, asked: schemas.AdmissionRequest) -> BaseModel:
        self.waiting += 1
        await self.may_end.wait()
        raise JoinRefused("no")


async def test_of_many_that_join_at_once_some_are_told_to_try_again(directory: Path) -> None:
    node, busy = await Node.made(directory, "node1"), _Busy()
    node.build = lambda _: cast(Membership, busy)
    body = {"name": "x", "address": "127.0.0.1:1", "token": "t", "request": "r"}
    async with running(node):
        asked = [asyncio.ensure_future(node.api.call("POST", "/v1/cluster/nodes", body)) for _ in range(9)]
        (first,), _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert (first.result().status, first.result().json["code"]) == (503, "too-many-waiting")
        assert busy.waiting == 8
        busy.may_end.set()
        await asyncio.wait(asked)
        assert sorted(each.result().status for each in asked) == [403] * 8 + [503]


@pytest.mark.parametrize(
    "request_text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n", "\x00" * 8000]
)
def test_a_request_that_is_none_is_refused(request_text: str) -> None:
    made, key = authority.make_authority("c")
    with pytest.raises(InvalidRequest):
        authority.sign(made, key, request_text, "n", lasts=timedelta(days=1))


def test_a_certificate_that_was_not_asked_for_is_refused() -> None:
    made, key = authority.make_authority("c")
    other, other_key = authority.make_authority("c")
    own, request = authority.make_request("n")
    foreign_key, foreign = authority.make_request("n")
    day = timedelta(days=1)
    good = authority.sign(made, key, request, "n", lasts=day)
    authority.check_issued(made, own, good, "n")
    for wrong in (
        authority.sign(other, other_key, request, "n", lasts=day),
        authority.sign(made, key, foreign, "n", lasts=day),
        authority.sign(made, key, request, "m", lasts=day),
        "nonsense",
    ):
        with pytest.raises(PeerInvalid):
            authority.check_issued(made, own, wrong, "n")
    assert foreign_key != own


_ANSWERS = {
    "nonsense": b"<html>",
    "null": b"null",
    "wrong types": b'{"certificate": 5}',
    "other error": b'{"code": "no-such-code", "cause": "c", "remedy": "r"}',
    "odd error": b'{"code": ["x"], "cause": null}',
}


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("nonsense", 200, PeerInvalid),
        ("null", 200, PeerInvalid),
        ("wrong types", 200, PeerInvalid),
        ("nonsense", 500, PeerInvalid),
        ("odd error", 500, PeerInvalid),
        ("other error", 409, VolplugError),
        ("nonsense", 307, PeerInvalid),
        ("endless", 200, PeerInvalid),
        ("never", 200, PeerUnreachable),
    ],
)
async def test_what_a_peer_answers_is_bounded_and_read_strictly(
    directory: Path, kind: str, status: int, error: type[Exception]
) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        if kind == "never":
            await asyncio.sleep(3600)
        if kind != "endless":
            return web.Response(
                body=_ANSWERS[kind], status=status, headers={"Location": "http://127.0.0.1:1/"}
            )
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"[" * 65536)
            sent += 65536

    async with _fake(directory, answer) as address:
        caller = PeerCaller(address, await asyncio.to_thread(unverified), call_s=1.0)
        with pytest.raises(error):
            await caller.call(schemas.AuthorityBody, "GET", "/v1/cluster/authority")
    assert sent < 16 * 1024 * 1024


async def test_a_host_that_poses_as_the_signer_gets_no_token(
    directory: Path, pair: tuple[Node, Node]
) -> None:
    """It shows the authority's certificate, which is no secret, or even a member's own."""
    line, asked = await pair[0].token(), []
    shown = pair[0].files()["ca.pem"].decode()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((request.method, request.path))
        return web.json_response({"certificate": shown})

    for certificate in (None, pair[1].identity):
        async with _fake(directory, answer, certificate) as address:
            third = await Node.made(directory, f"n{len(asked)}")
            async with running(third):
                reply = await third.tries_to_join(line, address=address)
        assert (reply.status, reply.json["code"]) == (502, "peer-invalid")
        assert third.files() == {}
    assert asked == [("GET", "/v1/cluster/authority")] * 2


@pytest.mark.parametrize("mark", ["CERTIFICATE", "X509 CERTIFICATE"])
async def test_an_authority_beside_the_one_of_the_fingerprint_is_not_trusted(
    directory: Path, mark: str
) -> None:
    """It is before the right one in the answer, or behind it: there Python's decoder ends at a padding."""
    made, _ = authority.make_authority("c")
    while not made.split("-----")[2].rstrip().endswith("="):
        made, _ = authority.make_authority("c")
    foreign, foreign_key = authority.make_authority("foreign")
    key, request = authority.make_request("n")
    day = timedelta(days=1)
    own = directory / "own.pem"
    own.write_text(key + authority.sign(foreign, foreign_key, request, "n", lasts=day, is_signer=True))
    other = foreign.replace("CERTIFICATE", mark)
    shown, asked = made + other if mark == "CERTIFICATE" else other + made, []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((request.method, request.path))
        return web.json_response({"certificate": shown})

    node = await Node.made(directory, "node")
    async with _fake(directory, answer, own) as address, running(node):
        line = {"address": address, "token": "t", "authority": authority.fingerprint_of(made)}
        reply = await node.tries_to_join(line)
    assert (reply.status, reply.json["code"]) == (502, "peer-invalid")
    assert asked == [("GET", "/v1/cluster/authority")]


@asynccontextmanager
async def _fake(directory: Path, answer: object, shown: Path | None = None) -> AsyncIterator[str]:
    """A host that speaks TLS, with a certificate of its own or one that it was given."""
    pair = await asyncio.to_thread(lambda: Authority(directory, "fake").issue("fake"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, shown or pair.certificate, None if shown else pair.key)
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)  # type: ignore[arg-type]  # a handler
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield "{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


def _one_file(pair: Pair) -> Path:
    path = pair.key.with_suffix(".both")
    path.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    return path


def _tls_names(certificate: str) -> list[str]:
    """Return the names in a node's certificate; it is for no authority."""
    from cryptography import x509

    issued = x509.load_pem_x509_certificate(certificate.encode())
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def _signed(path: Path, files: dict[str, bytes], name: str, lasts: timedelta) -> Path:
    """A certificate that the authority of a cluster has signed."""
    key, request = authority.make_request(name)
    issued = authority.sign(
        files["ca.pem"].decode(), files["ca.key"].decode(), request, name, lasts=lasts, is_signer=False
    )
    path.write_text(key + issued)
    return path


async def _is_other(node: Node, before: str) -> bool:
    return node.identity.read_text() != before


async def _has_status(client: Api, status: int) -> bool:
    return (await client.get("/healthz")).status == status
