"""What the settings say of the cluster, as the cluster needs it. Reads files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from volplug.cluster.directory import ClusterNode
from volplug.cluster.records import EtcdAccess
from volplug.config.settings import Settings
from volplug.errors import ConfigurationError

_LONGEST_FILE: Final = 64 * 1024
_DIGEST: Final = "sha256:"


def etcd_access(settings: Settings) -> EtcdAccess | None:
    """Return where etcd is, None if that is not set.

    Raises:
        ConfigurationError: If a file that is named cannot be read.
    """
    endpoints = tuple(filter(None, (each.strip() for each in settings.cluster_etcd.split(","))))
    if not endpoints:
        return None
    return EtcdAccess(
        endpoints=endpoints,
        user=settings.cluster_etcd_user,
        password=_read(settings, "cluster_etcd_password_file").strip(),
        authority=_read(settings, "cluster_etcd_ca"),
        certificate=str(settings.cluster_etcd_cert or ""),
        key=str(settings.cluster_etcd_key or ""),
    )


def listed_nodes(settings: Settings) -> Sequence[ClusterNode]:
    """Return the members that the configuration file lists."""
    return [
        ClusterNode(
            name=name,
            address=table.address,
            fingerprints=frozenset(filter(None, [table.fingerprint.removeprefix(_DIGEST)])),
            is_signer=table.is_signer,
        )
        for name, table in settings.nodes.items()
    ]


def _read(settings: Settings, setting: str) -> str:
    path: Path | None = getattr(settings, setting)
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LONGEST_FILE)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise ConfigurationError(f"{settings.place(setting)}: {path} cannot be read: {why}") from error
