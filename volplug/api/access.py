"""Who may use the control API on TCP: roles, the lines of the access file, and tokens. Does no I/O."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from volplug.errors import InvalidRequest

_TOKEN: Final = "sha256:"  # noqa: S105  # how the hash of a token begins in the file
_CERTIFICATE: Final = "cert:"
_PREFIX: Final = "volplug_"  # so that scanners for secrets, and people, see what a token is
_TOKEN_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.@-]{0,63}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Role(StrEnum):
    """What a client may do: READ looks, ADMIN changes volumes as well.

    NODE is a member of the cluster, by its certificate; ANY a client of which nothing is known. Both roles
    are found on the cluster's address only.
    """

    READ = "read"
    ADMIN = "admin"
    NODE = "node"
    ANY = "any"

    def permits(self, needed: Role) -> bool:
        """Tell whether this role suffices where another is needed; what nodes ask for, ADMIN may not."""
        return self is needed or needed is Role.ANY or (self is Role.ADMIN and needed is Role.READ)


_IN_FILE: Final = (Role.READ, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A client that is known.

    Attributes:
        name: For the log; of a node, its name in the cluster.
        role: What it may do.
        fingerprint: SHA-256 of a node's certificate; empty for others.
    """

    name: str
    role: Role
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One line of the access file; of `digest` and `common_name` one is empty.

    Attributes:
        client: Who it is about.
        digest: SHA-256 of its token, in hexadecimal digits. Tokens are random, so no slower hash is needed.
        common_name: The common name in its certificate.
    """

    client: ApiClient
    digest: str = ""
    common_name: str = ""


def read_access(text: str) -> tuple[Sequence[AccessLine], Sequence[str]]:
    """Read an access file; a line that is wrong permits nothing.

    Returns:
        The lines that are right, and what is wrong with the others.
    """
    lines, mistakes = [], []
    for number, written in enumerate(text.splitlines(), 1):
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        line = _read_line(written)
        if line is None:
            mistakes.append(f"line {number} is not `ROLE NAME sha256:HEX` or `ROLE NAME cert:COMMON-NAME`")
        else:
            lines.append(line)
    return lines, mistakes


def _read_line(written: str) -> AccessLine | None:
    match written.split(None, 2):
        case [role, name, key] if role in _IN_FILE and _NAME.fullmatch(name):
            client, key = ApiClient(name, Role(role)), key.strip()
            if key.startswith(_TOKEN) and _DIGEST.fullmatch(digest := key.removeprefix(_TOKEN)):
                return AccessLine(client, digest=digest)
            if key.startswith(_CERTIFICATE) and (common_name := key.removeprefix(_CERTIFICATE)):
                return AccessLine(client, common_name=common_name)
    return None


def client_of_token(lines: Sequence[AccessLine], token: str) -> ApiClient | None:
    """Return whose token it is; the time that it takes tells nothing about tokens in the file."""
    digest = _digest(token)
    found = None
    for line in lines:
        if line.digest and hmac.compare_digest(line.digest, digest):
            found = line.client
    return found


def client_of_certificate(lines: Sequence[AccessLine], common_name: str) -> ApiClient | None:
    """Return whose certificate has this common name; the certificate has been verified."""
    return next((line.client for line in lines if common_name and line.common_name == common_name), None)


def make_token(role: str, name: str) -> tuple[str, str]:
    """Return a new token, and the line of the access file that permits it.

    Raises:
        InvalidRequest: If there is no such role, or the name is not allowed.
    """
    if role not in _IN_FILE:
        raise InvalidRequest(f"unknown role {role[:20]!r}", f"Roles are {', '.join(_IN_FILE)}")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"name {name[:40]!r} is not allowed",
            "Use 1 to 64 of a-z A-Z 0-9 _ . @ - beginning with a letter or digit",
        )
    token = new_token()
    return token, f"{role} {name} {_TOKEN}{_digest(token)}"


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
