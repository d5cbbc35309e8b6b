"""What etcd and the identity's file hold, checked when it is read: others can write there."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import structlog
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from volplug.cluster.directory import is_address
from volplug.names import is_node_name

_LOG = structlog.get_logger(__name__)
_R = TypeVar("_R", bound="Record")
LONGEST_RECORD: Final = 8 * 1024
_MOST_CERTIFICATES: Final = 8


def _name(text: str) -> str:
    if not is_node_name(text):
        raise ValueError("not the name of a node")
    return text


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("not HOST:PORT")
    return text


NodeName = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_address)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Word = Annotated[str, StringConstraints(max_length=100, pattern=r"^[\x20-\x7e]*$")]


class Record(BaseModel):
    """A value of etcd, or a file."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version may have added keys


class AllowedCertificate(Record):
    """A certificate that a node may show."""

    fingerprint: Digest
    ends_at: AwareDatetime


class MemberRecord(Record):
    """A member: its name is its key. Without it, none of its certificates is accepted."""

    address: Address
    certificates: Annotated[
        tuple[AllowedCertificate, ...], Field(min_length=1, max_length=_MOST_CERTIFICATES)
    ]
    is_signer: bool = False


class LifeRecord(Record):
    """What a live node tells of itself; kept as long as its lease."""

    version: _Word
    node_ids: Annotated[dict[_Word, _Word], Field(max_length=100)]
    since: AwareDatetime


class TokenRecord(Record):
    """A join token, of which the key is the hash.

    Its end is written down as well as left to a lease: leases begin anew when etcd changes its leader.

    Attributes:
        ends_at: Its end.
        proof: That a signer has made it: every member can write to etcd. See `proof_of`.
    """

    ends_at: AwareDatetime
    proof: Digest


class EtcdAccess(Record):
    """Where etcd is and how a node logs in.

    Attributes:
        endpoints: URLs.
        user: Empty for none.
        password: Of the user.
        authority: Certificates that etcd's are signed by, as PEM; empty for those of the system.
        certificate: File with a certificate for etcd; empty for none.
        key: File with its key.
    """

    endpoints: tuple[str, ...]
    user: str = ""
    password: str = Field(default="", repr=False)
    authority: str = ""
    certificate: str = ""
    key: str = ""


class IdentityRecord(Record):
    """Who this node is in which cluster; `etcd` is None where the nodes are listed in the configuration."""

    name: NodeName
    address: Address
    cluster: str
    etcd: EtcdAccess | None = None


def read_record(kind: type[_R], key: str, value: bytes) -> _R | None:
    """Return a record, or None for one that cannot be used; the log says which."""
    try:
        if len(value) <= LONGEST_RECORD:
            return kind.model_validate_json(value)
        reason = f"it has {len(value)} bytes"
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
    _LOG.warning("record of the cluster ignored", key=key[:200], error=reason)
    return None


def proof_of(authority_key: str, token: str, ends_at: datetime) -> str:
    """Return what only those can make for a join token that have the authority's key."""
    text = f"join {digest_of(token)} {ends_at.astimezone(UTC).isoformat()}"
    return hmac.new(authority_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def digest_of(token: str) -> str:
    """Return the hash by which a token is kept; tokens are random, so no slower one is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
