"""Identifies this host to its cloud: what it is known by, once known, and where that is read."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from volplug.drivers.cloud.timeouts import METADATA_TIMEOUT_S

_FIRMWARE: Final = "devices/virtual/dmi/id"
_LONGEST_RESPONSE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CloudNode:
    """A host as its cloud knows it.

    Attributes:
        node_id: The cloud's id of it.
        zone: Its availability zone, which may differ from that of new volumes; "" if unknown.
    """

    node_id: str
    zone: str


_NodeT = TypeVar("_NodeT", bound=CloudNode)


class ThisNode(ABC, Generic[_NodeT]):
    """Identifies this host, once; after a failure, the next call tries again."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self.known: _NodeT | None = None

    async def get(self) -> _NodeT:
        """Return this host's identity.

        Raises:
            ConfigurationError: If it cannot be identified; with a remedy.
            BackendUnavailable: If the cloud does not answer.
        """
        async with self._asking:
            if self.known is None:
                self.known = await self._identify()
            return self.known

    @abstractmethod
    async def _identify(self) -> _NodeT: ...


def firmware_text(sys_root: Path, name: str) -> str:
    """Return a field of DMI, "" if it cannot be read, as in some containers. Blocks."""
    try:
        return (sys_root / _FIRMWARE / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def ask_metadata_service(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a response of a metadata service. Blocks.

    Raises:
        OSError: If there is none.
        ValueError: If the URL is none.
    """
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310  # a setting
    # Never through a proxy: the responses may hold secrets.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=METADATA_TIMEOUT_S) as answer:
            return bytes(answer.read(_LONGEST_RESPONSE))
    except urllib.error.HTTPError as error:
        error.close()  # it holds the response, and its connection
        raise
    except http.client.HTTPException as error:
        raise OSError(f"no response of HTTP: {error}") from error
