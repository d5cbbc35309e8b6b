"""The settings of the cluster: etcd, or nodes that the file lists."""

from pathlib import Path
from typing import Any

import pytest

from volplug.config import Settings, read_settings
from volplug.config.cluster import etcd_access, listed_nodes
from volplug.errors import ConfigurationError

pytestmark = pytest.mark.cluster

_ETCD = "https://10.0.0.5:2379, http://[fe80::1]:2379/,"


@pytest.mark.parametrize(
    ("flags", "file", "mistakes"),
    [
        ({"cluster_address": "10.0.0.5:7443", "cluster_etcd": _ETCD}, "", []),
        ({}, '[nodes.node1]\naddress = "node1:7443"\nis_signer = true', []),
        ({"cluster_address": "0.0.0.0:7443"}, "", ["other nodes cannot reach this address"]),
        ({"cluster_etcd": "10.0.0.5:2379"}, "", ["'10.0.0.5:2379' is not the URL of a member of etcd"]),
        ({"cluster_etcd": "https://u:p@h:2379"}, "", ["is not the URL of a member of etcd"]),
        ({"cluster_etcd_user": "volplug"}, "", ["user and password of etcd belong together"]),
        ({"cluster_etcd": _ETCD}, '[nodes.n]\naddress = "n:1"', ["etcd is set as well"]),
        ({}, "[nodes.n]", ["nodes.n.address in "]),
        ({}, '[nodes.N]\naddress = "n:1"', ["the name is not allowed"]),
        ({}, '[nodes.n]\naddress = "n"', ["'n' is not HOST:PORT"]),
        ({}, '[nodes.n]\naddress = "n:1"\nfingerprint = "ab"', ["'ab' is not sha256: and 64 digits"]),
        ({}, '[nodes.n]\naddress = "n:1"\nis_signer = "maybe"', ["is neither true nor false"]),
        ({}, '[nodes.n]\naddress = "n:1"\nport = 1', ["unknown key"]),
        ({}, '[node.n]\naddress = "n:1"', ["node in "]),
    ],
)
def test_mistakes_are_found(tmp_path: Path, flags: dict[str, str], file: str, mistakes: list[str]) -> None:
    (tmp_path / "config.toml").write_text(file)
    found = read_settings({**flags, "config": str(tmp_path / "config.toml")}).mistakes
    assert len(found) == len(mistakes), found
    for mistake, text in zip(found, mistakes, strict=True):
        assert text in mistake.cause


def test_etcd_and_nodes_are_read_as_the_cluster_needs_them(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    settings = Settings(
        cluster_etcd=_ETCD, cluster_etcd_user="u", cluster_etcd_password_file=tmp_path / "password"
    )
    access = etcd_access(settings)
    assert access is not None
    assert access.endpoints == ("https://10.0.0.5:2379", "http://[fe80::1]:2379/")
    assert (access.user, access.password) == ("u", "secret")
    assert "secret" not in repr(access)
    assert etcd_access(Settings()) is None
    tables: Any = {"n": {"address": "n:1", "fingerprint": f"sha256:{'0' * 64}"}}
    (node,) = listed_nodes(Settings(nodes=tables))
    assert (node.name, node.may_show("0" * 64), node.may_show("1" * 64)) == ("n", True, False)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = Settings(cluster_etcd=_ETCD, cluster_etcd_ca=tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"cluster_etcd_ca: .*/none cannot be read: No such file"):
        etcd_access(settings)
