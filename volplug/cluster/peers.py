"""Calls other nodes. What they answer is input: bounded in size and time, and read as a strict model."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from volplug.api.client_errors import answered_error
from volplug.errors import PeerInvalid, PeerUnreachable, VolplugError

_M = TypeVar("_M", bound=BaseModel)
_CALL_S: Final = 10.0
_LONGEST_ANSWER: Final = 128 * 1024  # as a request may have


class _Refusal(BaseModel):
    """What a node answers in place of what it was asked for."""

    model_config = ConfigDict(strict=True, extra="ignore")

    code: Annotated[str, StringConstraints(max_length=100)]
    cause: Annotated[str, StringConstraints(max_length=2000)]
    remedy: Annotated[str, StringConstraints(max_length=2000)] = ""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """An answer that is not read yet, and the address of this host that it came to."""

    body: bytes
    status: int
    own_host: str


class PeerCaller:
    """Sends requests to one node.

    Args:
        address: HOST:PORT.
        context: How TLS is spoken: whom to trust, what to show.
        tls_name: The name that its certificate must have; empty to check none.
        call_s: How long an answer may take.
    """

    def __init__(
        self, address: str, context: ssl.SSLContext, tls_name: str = "", call_s: float = _CALL_S
    ) -> None:
        self._address = address
        self._context = context
        self._tls_name = tls_name
        self._call_s = call_s

    async def call(
        self, kind: type[_M], method: str, path: str, body: BaseModel | None = None
    ) -> tuple[_M, str]:
        """Return the answer, and the address of this host that it came to.

        Raises:
            VolplugError: What was answered, or why nothing that can be used was.
        """
        try:
            async with asyncio.timeout(self._call_s):
                answer = await self._sent(method, path, body)
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._untrusted(error.certificate_error) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            why = str(error) or f"no answer within {self._call_s:.0f} s"
            raise PeerUnreachable(f"{self._address} does not answer: {why}", "Check the address") from error
        return self._read(kind, answer), answer.own_host

    async def _sent(self, method: str, path: str, body: BaseModel | None) -> PeerAnswer:
        connector = aiohttp.TCPConnector(ssl=self._context, force_close=True)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            session.request(
                method,
                f"https://{self._address}{path}",
                data=body.model_dump_json() if body is not None else None,
                headers=headers,
                allow_redirects=False,
                server_hostname=self._tls_name or None,
            ) as answer,
        ):
            transport = answer.connection.transport if answer.connection else None
            own = transport.get_extra_info("sockname") if transport else None
            read = bytearray()
            async for chunk in answer.content.iter_any():
                read += chunk
                if len(read) > _LONGEST_ANSWER:
                    raise PeerInvalid(f"{self._address} answers more than {_LONGEST_ANSWER >> 10} KiB")
        return PeerAnswer(bytes(read), answer.status, own[0] if own else "")

    def _read(self, kind: type[_M], answer: PeerAnswer) -> _M:
        try:
            if 200 <= answer.status < 300:
                return kind.model_validate_json(answer.body)
            refusal = _Refusal.model_validate_json(answer.body)
        except ValidationError as error:
            raise PeerInvalid(
                f"{self._address} answers what is no answer of volplug (status {answer.status})"
            ) from error
        raise answered_error(json.loads(refusal.model_dump_json()))

    def _untrusted(self, error: Exception) -> VolplugError:
        why = getattr(error, "verify_message", "") or str(error)
        return PeerInvalid(f"{self._address} is not the node that was meant: {why}")


def unverified() -> ssl.SSLContext:
    """Return how TLS is spoken with a node that is not known yet; nothing secret may be sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusting(authority: str) -> ssl.SSLContext:
    """Return how TLS is spoken with a node whose certificate one authority has signed.

    Raises:
        PeerInvalid: If it is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=authority)
    except (OSError, ValueError) as error:
        raise PeerInvalid("the certificate of the authority cannot be used") from error
    return context
