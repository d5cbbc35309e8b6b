"""Who sends a request to the control API: root on the Unix socket, and on TCP a client that is listed."""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from volplug.api.access import (
    AccessLine,
    ApiClient,
    Role,
    client_of_certificate,
    client_of_token,
    read_access,
)
from volplug.errors import Unauthenticated, WrongHost
from volplug.host.reread import FromFiles

_LOG = structlog.get_logger(__name__)
_SCHEME: Final = "bearer"
_STRANGER: Final = ApiClient("unknown", Role.ANY)
_UNIX: Final = ApiClient("unix", Role.ADMIN)

Admit = Callable[[web.BaseRequest], Awaitable[ApiClient]]


async def admit_local(request: web.BaseRequest) -> ApiClient:
    """Return the client of the Unix socket: its mode says who may connect."""
    return _UNIX


class TcpAccess:
    """Admits clients on TCP.

    Args:
        access: The lines of the access file.
        names: Names and addresses of this host, in lower case. A page in a browser that has made another name
            resolve to this host is refused by them.
    """

    def __init__(self, access: FromFiles[Sequence[AccessLine]], names: Collection[str]) -> None:
        self._access = access
        self._names = names

    async def admit(self, request: web.BaseRequest) -> ApiClient:
        """Return the client that sends a request, by its token, else by its certificate.

        Raises:
            WrongHost: If it is addressed to another name.
            Unauthenticated: If it is no client that is listed.
        """
        if _host_name(request.headers.get("Host", "")) not in self._names:
            raise WrongHost(
                "the request's Host is not a name of this host", "Add it to VOLPLUG_CONTROL_NAMES"
            )
        lines = await self._access.current()
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            client = client_of_token(lines, token.strip()) if scheme.lower() == _SCHEME else None
        else:
            client = client_of_certificate(lines, _common_name(request))
        if client is None:
            raise Unauthenticated(
                "the client is not known",
                "Send a token (Authorization: Bearer TOKEN) or a certificate that is listed",
            )
        return client


class PeerAccess:
    """Admits clients on the cluster's address: members by their certificates, and others as nothing known.

    No Host header is checked: a page in a browser has no member's certificate to show, nor a join token.

    Args:
        may_show: Tells whether a node, by its name, may show a certificate, by its fingerprint.
    """

    def __init__(self, may_show: Callable[[str, str], bool]) -> None:
        self._may_show = may_show

    async def admit(self, request: web.BaseRequest) -> ApiClient:
        """Return the client that sends a request.

        Raises:
            Unauthenticated: If it shows a certificate that is not a member's, or not any more.
        """
        tls = request.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if certificate is None:
            return _STRANGER
        name, fingerprint = _common_name(request), hashlib.sha256(certificate).hexdigest()
        if not self._may_show(name, fingerprint):
            raise Unauthenticated(
                f"the certificate of {name[:64]!r} is not one of a member", "Join again: volplug cluster join"
            )
        return ApiClient(name, Role.NODE, fingerprint)


def _host_name(host: str) -> str:
    """Return a Host header's name, in lower case, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _common_name(request: web.BaseRequest) -> str:
    """Return the one common name of the client's certificate, which TLS has verified; "" without one."""
    certificate: dict[str, Any] = request.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""


def read_access_file(path: Path) -> Sequence[AccessLine]:
    """Read the access file; one that cannot be used permits nothing, and the log has the reason."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
                _LOG.error("access file refused: others can write to it", file=str(path))
                return ()
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        _LOG.error("access file cannot be read", file=str(path), error=str(error))
        return ()
    lines, mistakes = read_access(text)
    for mistake in mistakes:
        _LOG.error("access file has a mistake", file=str(path), error=mistake)
    return lines


def tls_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Return how the control API speaks TLS; a certificate that a client shows has to be signed by the CA.

    Raises:
        OSError: If a file cannot be read, or is not what it should be; named, as errors of OpenSSL do not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password OpenSSL would ask for that of an encrypted key at the terminal, and wait.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise OSError(f"{certificate} and {key} are no certificate and its key: {error}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise OSError(f"{client_ca} has no certificates: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL  # a token will do, too
    return context
