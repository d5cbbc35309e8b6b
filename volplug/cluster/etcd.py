"""A client of etcd v3, by its JSON gateway, with the HTTP client that volplug has anyway.

Tried against etcd 3.4, in milliseconds to import and megabytes of memory on top of aiohttp:

- aetcd 1.0 (gRPC): 45 ms, 12 MB. One endpoint; a token is never renewed. grpcio is 9 MB of that in any case.
- etcd3gw 2.7 (this gateway, by requests): 45 ms, 7 MB. Blocks; one endpoint; no logging in.
- grpclib with generated stubs: 30 ms, 4 MB. Everything below would still be ours, on two more packages.
- The gateway with aiohttp: nothing.

The gateway ignores the common name of client certificates: where etcd has users, volplug logs in by password.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog

from volplug.cluster.records import EtcdAccess
from volplug.errors import ConfigurationError, DirectoryDenied, DirectoryUnavailable, VolplugError
from volplug.host.threads import Pool

_LOG = structlog.get_logger(__name__)
_CALL_S: Final = (
    3.0  # of one member: an election takes about 1 s, a call through a follower without a leader 5 s
)
_LOGIN_S: Final = 7.0  # on top of that: bcrypt, one password after the other
_LONGEST_ANSWER: Final = 8 * 1024 * 1024  # 1,000 records of the longest kind
_LONGEST_LINE: Final = 1024 * 1024  # of a watch; what does not fit makes it begin anew
_MOST_KEYS: Final = 4000
# Codes of gRPC.
_LEASE_GONE, _DENIED, _UNAUTHENTICATED = 5, 7, 16
_ANEW: Final = ("auth token", "revision of auth store")  # the token has expired, or users were changed
_REFUSED: Final = ("user name is empty", "authentication failed", "permission denied")

# What reading raises of an answer that has another form.
_ODD: Final = (AttributeError, KeyError, TypeError, ValueError, RecursionError)

Json = dict[str, Any]


class WatchEnded(Exception):
    """A watch has ended or misses changes: what is watched has to be read again."""


class LeaseGone(Exception):
    """The lease has expired."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key that was written, or deleted if it has no value."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: the last revision of a key, or of all below a prefix; 0 for none."""

    key: str
    revision: int = 0
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """A write in a transaction."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """A deletion in a transaction."""

    key: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A value with the revision of its last change."""

    value: bytes
    revision: int


class EtcdClient:
    """Calls one member of etcd, and the next one when that does not answer.

    Every call may be sent twice: a caller has to bear that the first one took effect.

    Args:
        access: Where etcd is.
        pool: Reads certificates.
        call_s: How long one member may take.
    """

    def __init__(self, access: EtcdAccess, pool: Pool, call_s: float = _CALL_S) -> None:
        self._access = access
        self._pool = pool
        self._call_s = call_s
        self._at = 0
        self._token = ""
        self._login = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._watches: set[aiohttp.ClientResponse] = set()

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def read(self, prefix: str) -> tuple[Mapping[str, Stored], int]:
        """Return all keys below a prefix, and the revision as of which they are.

        Raises:
            VolplugError: If etcd does not answer, or with what cannot be used.
        """
        body = {**_range(prefix), "limit": _MOST_KEYS}
        answer = await self._call("kv/range", body)
        try:
            found = {_text(each["key"]): _stored(each) for each in answer.get("kvs", ())}
            return found, int(answer["header"]["revision"])
        except _ODD as error:
            raise _nonsense(error) from error

    async def get(self, key: str) -> Stored | None:
        """Return the value of a key."""
        answer = await self._call("kv/range", {"key": _base64(key)})
        try:
            return next((_stored(each) for each in answer.get("kvs", ())), None)
        except _ODD as error:
            raise _nonsense(error) from error

    async def change(self, compares: Sequence[Compare], changes: Sequence[Put | Delete]) -> bool:
        """Make changes together if all conditions hold, and tell whether they did.

        Raises:
            LeaseGone: If a lease has expired.
        """
        answer = await self._call(
            "kv/txn",
            {
                "compare": [_compare(each) for each in compares],
                "success": [_change(each) for each in changes],
            },
        )
        return answer.get("succeeded") is True

    async def grant(self, ttl_s: int) -> int:
        """Return a new lease."""
        answer = await self._call("lease/grant", {"TTL": ttl_s})
        try:
            return int(answer["ID"])
        except _ODD as error:
            raise _nonsense(error) from error

    async def keep_alive(self, lease: int) -> None:
        """Prolong a lease.

        Raises:
            LeaseGone: If it has expired.
        """
        result = (await self._call("lease/keepalive", {"ID": str(lease)})).get("result")
        if not isinstance(result, dict):
            raise _nonsense(TypeError("result"))
        if not result.get("TTL"):
            raise LeaseGone

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""
        await self._call("lease/revoke", {"ID": str(lease)})

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        """Return changes below a prefix after a revision; it begins with none, once etcd watches.

        A member that is cut off would keep it open for ever. But then other calls move to the next member,
        and that ends all watches.

        Raises:
            WatchEnded: When it ends, for any reason; compaction is one.
        """
        try:
            answer = await self._watched(prefix, after)
            try:
                while line := await answer.content.readline():
                    yield _changes(line)
            finally:
                self._watches.discard(answer)
                answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError, *_ODD) as error:
            raise WatchEnded(str(error) or type(error).__name__) from error
        raise WatchEnded("etcd has ended it")

    async def _watched(self, prefix: str, after: int) -> aiohttp.ClientResponse:
        session, member = await self._opened(), self._at
        body = {"create_request": {**_range(prefix), "start_revision": after + 1}}
        headers = await self._headers(session)
        forever = aiohttp.ClientTimeout(total=None)
        async with asyncio.timeout(self._call_s):
            answer = await session.post(
                self._url("watch"), json=body, headers=headers, timeout=forever, allow_redirects=False
            )
        if member != self._at:
            answer.close()
            raise aiohttp.ClientConnectionError("another member is called by now")
        self._watches.add(answer)
        return answer

    # Transport

    async def _call(self, path: str, body: Json) -> Json:
        session = await self._opened()
        for _ in self._access.endpoints:
            try:
                return await self._logged_in(session, path, body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure, endpoint = str(error) or type(error).__name__, self._turn()
                _LOG.info("etcd member does not answer", endpoint=endpoint, error=failure)
        raise DirectoryUnavailable(f"etcd does not answer: {failure}", "Check etcd and cluster_etcd")

    async def _logged_in(self, session: aiohttp.ClientSession, path: str, body: Json) -> Json:
        """Call one member; log in anew, once, if it does not know the token any more."""
        for is_last in (False, True):
            headers = await self._headers(session)
            status, answer = await self._post(session, path, body, headers, self._call_s)
            if status == 200 and "error" not in answer:  # a stream's error comes with 200
                return answer
            if not is_last and self._access.user and _is_outdated(answer):
                if headers["Authorization"] == self._token:  # else another call has a new one
                    self._token = ""
                continue
            raise _refusal(answer)
        raise AssertionError("unreachable")

    async def _headers(self, session: aiohttp.ClientSession) -> dict[str, str]:
        if self._access.user and not self._token:
            async with self._login:  # one for all calls that wait for it: etcd makes each slow on purpose
                self._token = self._token or await self._logged_in_anew(session)
        return {"Authorization": self._token} if self._token else {}

    async def _logged_in_anew(self, session: aiohttp.ClientSession) -> str:
        login = {"name": self._access.user, "password": self._access.password}
        status, answer = await self._post(session, "auth/authenticate", login, {}, self._call_s + _LOGIN_S)
        token = answer.get("token")
        if status != 200 or not isinstance(token, str):
            raise _refusal(answer)
        return token

    async def _post(
        self,
        session: aiohttp.ClientSession,
        path: str,
        body: Json,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[int, Json]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with session.post(
            self._url(path), json=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            read = bytearray()
            async for chunk in answer.content.iter_any():
                read += chunk
                if len(read) > _LONGEST_ANSWER:
                    raise aiohttp.ClientPayloadError(f"an answer is longer than {_LONGEST_ANSWER >> 20} MiB")
        try:
            parsed = json.loads(read)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise aiohttp.ClientPayloadError("what answers is not etcd v3")
        return answer.status, parsed

    def _url(self, path: str) -> str:
        return f"{self._access.endpoints[self._at].rstrip('/')}/v3/{path}"

    def _turn(self) -> str:
        """Go on with the next member, also in watches; return the one before."""
        before = self._access.endpoints[self._at]
        self._at = (self._at + 1) % len(self._access.endpoints)
        for each in self._watches:
            each.close()
        return before

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = await self._pool.blocking(_context, self._access)
            if self._session is None:  # another call may have been quicker
                connector = aiohttp.TCPConnector(ssl=context, limit=16)
                self._session = aiohttp.ClientSession(
                    connector=connector, auto_decompress=False, read_bufsize=_LONGEST_LINE
                )
        return self._session


def _context(access: EtcdAccess) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.authority or None)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key or None, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"certificates for etcd cannot be used: {error}", "Check cluster_etcd_ca, _cert and _key"
        ) from error
    return context


def _details(answer: Json) -> Json:
    error = answer.get("error")
    return error if isinstance(error, dict) else answer  # a stream's error is a level lower


def _code_of(answer: Json) -> object:
    details = _details(answer)
    return details.get("code", details.get("grpc_code"))


def _is_outdated(answer: Json) -> bool:
    message = str(_details(answer).get("message", ""))
    return _code_of(answer) == _UNAUTHENTICATED or any(each in message for each in _ANEW)


def _refusal(answer: Json) -> Exception:
    """Return the error for an answer; one that another member may not give is a `ClientError`."""
    code, message = _code_of(answer), str(_details(answer).get("message", ""))[:200]
    if code == _LEASE_GONE and "lease" in message:
        return LeaseGone()
    if code in (_DENIED, _UNAUTHENTICATED) or any(each in message for each in _REFUSED):
        return DirectoryDenied(f"etcd refuses volplug: {message}", "Check cluster_etcd_user and its password")
    return aiohttp.ClientPayloadError(f"etcd fails: {message}")


def _nonsense(error: Exception) -> VolplugError:
    return DirectoryUnavailable(f"etcd's answer cannot be read: {error!r}", "Check cluster_etcd")


def _changes(line: bytes) -> Sequence[Change]:
    """Read one line of a watch.

    Raises:
        ValueError: If it cannot be read, or tells the end of the watch.
    """
    result = json.loads(line)["result"]
    if result.get("canceled"):
        compacted = f"compacted up to {result['compact_revision']}" if "compact_revision" in result else ""
        raise ValueError(compacted or str(result.get("cancel_reason", "canceled"))[:200])
    return [
        Change(
            _text(each["kv"]["key"]),
            None if each.get("type") == "DELETE" else base64.b64decode(each["kv"].get("value", "")),
        )
        for each in result.get("events", ())
    ]


def _stored(kv: Json) -> Stored:
    return Stored(base64.b64decode(kv.get("value", "")), int(kv["mod_revision"]))


def _compare(compare: Compare) -> Json:
    of = _range(compare.key) if compare.is_prefix else {"key": _base64(compare.key)}
    return {**of, "target": "MOD", "result": "EQUAL", "mod_revision": compare.revision}


def _change(change: Put | Delete) -> Json:
    if isinstance(change, Delete):
        return {"request_delete_range": {"key": _base64(change.key)}}
    put = {"key": _base64(change.key), "value": _base64(change.value)}
    return {"request_put": {**put, "lease": str(change.lease)} if change.lease else put}


def _range(prefix: str) -> Json:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": _base64(prefix), "range_end": _base64(end)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "replace")
