"""Who this node is: the files in STATE_DIR/cluster, which are there all or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.cluster.authority import fingerprint_of
from volplug.cluster.records import IdentityRecord, read_record
from volplug.errors import AlreadyMember, HostError, PeerInvalid
from volplug.host.files import replace_file, sync_directory

_RECORD: Final = "member.json"
_NODE: Final = "node.pem"
_AUTHORITY: Final = "ca.pem"
_AUTHORITY_KEY: Final = "ca.key"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """This node as a member.

    Attributes:
        record: Its name, address and cluster.
        authority: Certificate of the authority.
        node: The node's key and certificate, in one text: a renewal replaces both at once.
        authority_key: Empty unless this node signs.
    """

    record: IdentityRecord
    authority: str
    node: str
    authority_key: str = ""

    @property
    def fingerprint(self) -> str:
        """Return that of the certificate."""
        return fingerprint_of(self.node)

    @property
    def files(self) -> Mapping[str, str]:
        """Return the files that it is kept in."""
        key = {_AUTHORITY_KEY: self.authority_key} if self.authority_key else {}
        return {_RECORD: self.record.model_dump_json(), _AUTHORITY: self.authority, _NODE: self.node, **key}


class IdentityFiles:
    """Where the identity is kept. Every method blocks.

    Args:
        state_dir: The state directory.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "cluster"
        self._new = state_dir / ".cluster.new"
        self._old = state_dir / ".cluster.old"
        self.node = self._directory / _NODE
        self.authority = self._directory / _AUTHORITY

    @property
    def exist(self) -> bool:
        """Tell whether this host is a member."""
        return self._directory.is_dir()

    def read(self) -> NodeIdentity:
        """Return the identity.

        Raises:
            HostError: If a file cannot be read, or is not what it should be.
        """
        try:
            record = read_record(IdentityRecord, _RECORD, (self._directory / _RECORD).read_bytes())
            key = self._directory / _AUTHORITY_KEY
            authority_key = key.read_text(encoding="ascii") if key.exists() else ""
            identity = NodeIdentity(
                _checked(record),
                self.authority.read_text(encoding="ascii"),
                self.node.read_text(encoding="ascii"),
                authority_key,
            )
            for pem in (identity.authority, identity.node):
                fingerprint_of(pem)
        except (OSError, ValueError, PeerInvalid) as error:
            raise HostError(
                f"the identity in {self._directory} cannot be used: {error}",
                "Restore it; or remove the node from the cluster and this directory, and join again",
            ) from error
        return identity

    def write(self, identity: NodeIdentity) -> None:
        """Keep a new identity: a directory that is complete gets its name, which none must have.

        Raises:
            AlreadyMember: If there is one.
            HostError: If it cannot be written.
        """
        if self.exist:
            raise AlreadyMember("this host is a member of a cluster", "volplug cluster leave ends that")
        self.clear()
        try:
            self._new.mkdir(mode=0o700)
            for name, text in identity.files.items():
                replace_file(self._new / name, text)
            sync_directory(self._new)
            self._new.rename(self._directory)
            sync_directory(self._directory.parent)
        except OSError as error:
            raise HostError(f"the identity cannot be written: {error}") from error

    def renew(self, node: str) -> None:
        """Replace the node's key and certificate.

        Raises:
            HostError: If they cannot be written.
        """
        try:
            replace_file(self.node, node)
            sync_directory(self._directory)
        except OSError as error:
            raise HostError(f"the new certificate cannot be written: {error}") from error

    def clear(self) -> None:
        """Remove what `write` or `forget` has left half done, keys among it, where the process was killed."""
        for left in (self._new, self._old):
            shutil.rmtree(left, ignore_errors=True)

    def forget(self) -> None:
        """Remove the identity, all at once.

        Raises:
            HostError: If that fails.
        """
        self.clear()
        try:
            self._directory.rename(self._old)
            sync_directory(self._directory.parent)
            shutil.rmtree(self._old)
        except OSError as error:
            raise HostError(f"the identity cannot be removed: {error}") from error


def _checked(record: IdentityRecord | None) -> IdentityRecord:
    if record is None:
        raise ValueError(f"{_RECORD} is damaged")
    return record
