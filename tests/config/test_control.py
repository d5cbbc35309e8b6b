"""The settings of the control API: where its socket is, and what TCP needs."""

from pathlib import Path

import pytest

from volplug.config import Settings, read_settings

pytestmark = pytest.mark.api

_TLS = {"control_cert": "/c", "control_key": "/k", "control_access": "/a"}


@pytest.mark.parametrize(
    ("values", "is_managed", "path"),
    [
        ({}, False, "/run/volplug/control.sock"),
        ({}, True, "/var/lib/volplug/control.sock"),
        ({"state_dir": "/srv/state"}, False, "/srv/state/control.sock"),
        ({"state_dir": "/var/lib/other"}, True, "/var/lib/other/control.sock"),
        ({"control_socket": "/run/c.sock"}, True, "/run/c.sock"),
    ],
)
def test_two_services_of_a_host_have_two_sockets(values: dict[str, str], is_managed: bool, path: str) -> None:
    assert Settings.model_validate(values).resolved_control_socket(is_managed=is_managed) == Path(path)


@pytest.mark.parametrize(
    ("values", "mistakes"),
    [
        ({}, []),
        (_TLS, []),
        ({"control_listen": "10.0.0.5:8443", **_TLS}, []),
        ({"control_listen": "[::1]:8443", **_TLS}, []),
        ({"control_listen": "0.0.0.0:8443", "control_names": "node1", **_TLS}, []),
        ({"control_listen": "0.0.0.0:8443", **_TLS}, ["it listens on every address"]),
        ({"control_listen": "[::]:8443", **_TLS}, ["it listens on every address"]),
        (
            {"control_listen": "node1:8443"},
            ["control_cert is not set", "control_key is not set", "control_access is not set"],
        ),
        ({"control_listen": "node1", **_TLS}, ["'node1' is not HOST:PORT"]),
        ({"control_listen": ":8443", **_TLS}, ["':8443' is not HOST:PORT"]),
        ({"control_listen": "node1:0", **_TLS}, ["'node1:0' is not HOST:PORT"]),
        ({"control_listen": "node1:65536", **_TLS}, ["'node1:65536' is not HOST:PORT"]),
    ],
)
def test_tcp_needs_tls_and_an_access_file(values: dict[str, str], mistakes: list[str]) -> None:
    found = read_settings(values).mistakes
    assert len(found) == len(mistakes)
    for mistake, text in zip(found, mistakes, strict=True):
        assert mistake.cause.startswith("flag --control-listen: ")
        assert text in mistake.cause


@pytest.mark.parametrize(
    ("listen", "names", "known"),
    [
        ("node1:8443", "", {"node1"}),
        ("[FE80::1]:8443", "", {"fe80::1"}),
        ("0.0.0.0:8443", "Node1.example.com, 10.0.0.5,,[::1]", {"node1.example.com", "10.0.0.5", "::1"}),
        ("10.0.0.5:8443", "node1", {"node1"}),
    ],
)
def test_clients_call_it_by_its_names(listen: str, names: str, known: set[str]) -> None:
    settings = Settings(control_listen=listen, control_names=names)
    assert settings.resolved_control_names == known
