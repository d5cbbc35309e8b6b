"""The directory of nodes: what it tells, and the one that is a list in the configuration file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9._-]{1,200}):([1-9][0-9]{0,4})", re.ASCII)
_PORTS: Final = 65_536
_NO_IDS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A member of the cluster, as a directory knows it.

    Attributes:
        name: Its name, in lower case.
        address: HOST:PORT at which it serves other nodes.
        fingerprints: SHA-256 of each certificate that it may show, in hexadecimal digits; two while one is
            renewed. Empty if every certificate of its name is permitted that the cluster's authority signed.
        is_signer: Whether it has the authority's key.
        node_ids: Its id at each backend, as far as it has told.
        version: Of its volplug; empty if it has not told.
        is_live: Whether it is there; None if that is not known.
        since: When it came, if it is live.
    """

    name: str
    address: str
    fingerprints: frozenset[str] = frozenset()
    is_signer: bool = False
    node_ids: Mapping[str, str] = field(default_factory=lambda: _NO_IDS)
    version: str = ""
    is_live: bool | None = None
    since: datetime | None = None

    def may_show(self, fingerprint: str) -> bool:
        """Tell whether a certificate, which the authority has signed for its name, is permitted."""
        return not self.fingerprints or fingerprint in self.fingerprints


class NodeDirectory(Protocol):
    """Knows the members of the cluster; answers from memory."""

    @property
    def is_current(self) -> bool:
        """Tell whether what it knows is not older than the last failure to read it."""
        ...

    def nodes(self) -> Sequence[ClusterNode]:
        """Return the members by name; none before they were first read."""
        ...

    def node(self, name: str) -> ClusterNode | None:
        """Return one member."""
        ...


class StaticNodes:
    """The members that the configuration file lists. Nothing tells which of them are live."""

    def __init__(self, nodes: Sequence[ClusterNode]) -> None:
        self._nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}

    @property
    def is_current(self) -> bool:
        """Return True: the list changes with a restart."""
        return True

    def nodes(self) -> Sequence[ClusterNode]:
        """Return the members by name."""
        return tuple(self._nodes.values())

    def node(self, name: str) -> ClusterNode | None:
        """Return one member."""
        return self._nodes.get(name)


def is_address(text: str) -> bool:
    """Tell whether a text is HOST:PORT."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and int(match[2]) < _PORTS


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
