"""Requests that do not fit their route are refused, and nothing is done."""

import pytest

from tests.api.serving import Api
from tests.volumes.world import World

pytestmark = pytest.mark.api

_VOLUME = {"name": "v"}


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ({}, "body: name: Field required"),
        ([], "body: Input should be"),
        ("v", "body: Input should be"),
        ({"name": 1}, "body: name: Input should be a valid string"),
        ({"name": "../v"}, "body: name: String should match pattern"),
        ({"name": "v\n"}, "body: name: String should match pattern"),
        (_VOLUME | {"size_bytes": "1"}, "body: size_bytes: Input should be a valid integer"),
        (_VOLUME | {"size_bytes": True}, "body: size_bytes: Input should be a valid integer"),
        (_VOLUME | {"size_bytes": 0}, "body: size_bytes: Input should be greater"),
        (_VOLUME | {"size_bytes": 10**40}, "body: size_bytes: Input should be less"),
        (_VOLUME | {"options": {"fs": 1}}, "body: options.fs: Input should be a valid string"),
        (_VOLUME | {"options": {}, "size": "1GiB"}, "body: size: Extra inputs are not permitted"),
        (_VOLUME | {"options": {"x" * 5000: 1}}, f"body: options.{'x' * 40}...: Input should be"),
        (_VOLUME | {"options": {"fs": "ntfs"}}, "unknown filesystem 'ntfs'"),
        (_VOLUME | {"options": {"size": "lots"}}, "size 'lots' cannot be read"),
        (_VOLUME | {"size_bytes": 1, "options": {"Size": "1GiB"}}, "option 'size' is given twice"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused(world: World, api: Api, body: object, cause: str) -> None:
    answer = await api.call("POST", "/v1/volumes", body)
    assert answer.status == 400
    assert answer.json["cause"].startswith(cause)
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    ("sent", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid-request"),
        (b"\xff", "application/json", 400, "invalid-request"),
        (b"[" * 100_000, "application/json", 400, "invalid-request"),
        (b'{"name": NaN}', "application/json", 400, "invalid-request"),
        (b'{"name": "v"}', "text/plain", 415, "wrong-media-type"),
        (b'{"name": "v"}', "application/x-www-form-urlencoded", 415, "wrong-media-type"),
        (b" " * (128 * 1024 + 1), "application/json", 413, "request-too-large"),
    ],
)
async def test_what_is_no_json_is_refused(
    world: World, api: Api, sent: bytes, kind: str, status: int, code: str
) -> None:
    headers = {"Content-Type": kind}
    async with api.session.post("http://localhost/v1/volumes", data=sent, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)
    assert world.cloud.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/volumes?limit=0",
        "/v1/volumes?limit=1001",
        "/v1/volumes?limit=ten",
        "/v1/volumes?limit=1&limit=2",
        "/v1/volumes?limt=1",
        "/v1/volumes?state=gone",
        "/v1/volumes?cursor=%21",
        "/v1/operations?cursor=%FF",
        "/v1/operations?state=done",
        "/v1/operations/x?wait_s=61",
        "/v1/operations/x?wait_s=nan",
        "/v1/events?kind=all",
        "/v1/version?a=b",
    ],
)
async def test_a_query_that_does_not_fit_is_refused(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.json["code"]) == (400, "invalid-request")


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "caf\u00e9"])
async def test_an_odd_idempotency_key_is_refused(world: World, api: Api, key: str) -> None:
    answer = await api.call("POST", "/v1/volumes", _VOLUME, {"Idempotency-Key": key})
    assert (answer.status, answer.json["code"]) == (400, "invalid-request")
    dry_run = {"dry_run": True}
    answer = await api.call("POST", "/v1/volumes/v/takeover", dry_run, {"Idempotency-Key": key})
    assert (answer.status, answer.json["code"]) == (400, "invalid-request")
    assert world.cloud.calls == []


async def test_a_body_where_none_is_read_is_refused(api: Api) -> None:
    answer = await api.call("GET", "/v1/version", {})
    assert (answer.status, answer.json["code"]) == (400, "invalid-request")


async def test_no_answer_permits_other_origins(api: Api) -> None:
    origin = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = await api.call(method, "/v1/volumes", headers=origin)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
