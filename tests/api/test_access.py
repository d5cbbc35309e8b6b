"""Tokens, the access file, and roles."""

import pytest

from volplug.__main__ import main
from volplug.api.access import (
    ApiClient,
    Role,
    client_of_certificate,
    client_of_token,
    make_token,
    read_access,
)
from volplug.errors import InvalidRequest

pytestmark = pytest.mark.api

_DIGEST = "0" * 64


def test_a_made_token_is_that_of_its_line_and_no_other_is() -> None:
    made = [make_token(role, name) for role, name in (("read", "monitoring"), ("admin", "deployer"))]
    lines, mistakes = read_access("\n".join(line for _, line in made))
    assert mistakes == []
    assert [client_of_token(lines, token) for token, _ in made] == [
        ApiClient("monitoring", Role.READ),
        ApiClient("deployer", Role.ADMIN),
    ]
    (token, line), _ = made
    for wrong in (
        "",
        token[:-1],
        token + "0",
        token.upper(),
        line.partition("sha256:")[2],
        "caf\u00e9",
        "\udcff",
    ):
        assert client_of_token(lines, wrong) is None


def test_tokens_are_not_repeated_and_not_in_their_lines() -> None:
    made = [make_token("read", "monitoring") for _ in range(3)]
    assert len({token for token, _ in made}) == 3
    assert all(token.removeprefix("volplug_") not in line for token, line in made)


def test_a_certificate_is_known_by_its_whole_common_name() -> None:
    lines, _ = read_access("admin node2 cert:node2.example.com\nread people cert:Some People\n")
    assert client_of_certificate(lines, "node2.example.com") == ApiClient("node2", Role.ADMIN)
    assert client_of_certificate(lines, "Some People") == ApiClient("people", Role.READ)
    for wrong in ("", "node2", "node2.example.com.", "NODE2.example.com"):
        assert client_of_certificate(lines, wrong) is None


@pytest.mark.parametrize(
    "written",
    [
        "admin",
        "admin node2",
        f"root node2 sha256:{_DIGEST}",
        f"Admin node2 sha256:{_DIGEST}",
        f"admin node2 sha256:{_DIGEST[1:]}",
        f"admin node2 sha256:{_DIGEST}0",
        f"admin node2 md5:{_DIGEST}",
        f"admin node2 {_DIGEST}",
        f"admin n/2 sha256:{_DIGEST}",
        "admin node2 cert:",
    ],
)
def test_a_wrong_line_permits_nothing_and_the_others_stay(written: str) -> None:
    lines, mistakes = read_access(f"# who\n\n{written}\n  read b sha256:{_DIGEST}\n")
    assert [line.client.name for line in lines] == ["b"]
    assert mistakes == ["line 3 is not `ROLE NAME sha256:HEX` or `ROLE NAME cert:COMMON-NAME`"]


def test_roles_permit_what_they_say() -> None:
    permitted = [(role, needed) for role in Role for needed in Role if role.permits(needed)]
    own = [(role, role) for role in Role]
    to_any = [(role, Role.ANY) for role in Role]
    assert {*permitted} == {*own, *to_any, (Role.ADMIN, Role.READ)}


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("root", "a"),
        ("node", "a"),
        ("any", "a"),
        ("", "a"),
        ("read", ""),
        ("read", "a b"),
        ("read", "x" * 65),
    ],
)
def test_no_token_is_made_for_another_role_or_an_odd_name(role: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        make_token(role, name)


def test_the_command_prints_the_token_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["make-token", "admin", "deployer"]) == 0
    token, line = capsys.readouterr().out.splitlines()
    assert client_of_token(read_access(line)[0], token) == ApiClient("deployer", Role.ADMIN)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "make-token needs a role and a name. Write volplug make-token read NAME, or admin."),
        (["read"], "make-token needs a role and a name. Write volplug make-token read NAME, or admin."),
        (["root", "a"], "unknown role 'root'. Roles are read, admin."),
    ],
)
def test_the_command_says_what_it_needs(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make-token", *arguments]) == 2
    assert capsys.readouterr().err == f"volplug: {told}\n"
