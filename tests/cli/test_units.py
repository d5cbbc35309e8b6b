"""Sizes, ages, tables and templates, without a daemon."""

from datetime import UTC, datetime, timedelta

import pytest

from volplug.api.client import LOCAL_SOCKETS, check_versions
from volplug.api.client_errors import UsageError, VersionMismatch, answered_error
from volplug.cli.arguments import path_of, read_filters
from volplug.cli.exits import _CODES, exit_code_of
from volplug.cli.formats import Shown
from volplug.cli.tables import Column, table_lines
from volplug.cli.terminal import Terminal
from volplug.cli.units import age, human_size
from volplug.config.settings import DEFAULT_CONTROL_SOCKET, DEFAULT_STATE_DIR, Settings
from volplug.errors import VolplugError, VolumeInUse, VolumeNotFound
from volplug.sizes import GIB, MIB

pytestmark = pytest.mark.cli

_NOW = datetime(2026, 5, 1, tzinfo=UTC)
_COLUMNS = (
    Column("NAME", lambda each: str(each["name"]), is_long=True),
    Column("STATE", lambda each: str(each["state"])),
    Column("NOTE", lambda each: "a note", is_wide=True),
)
_VOLUME = {
    "name": "db",
    "state": "error",
    "size_bytes": 5,
    "is_it": True,
    "usage": {"used_bytes": 7},
    "none": None,
}


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (64 * MIB, "64MiB"),
        (10 * GIB, "10GiB"),
        (1500 * GIB, "1.465TiB"),
        (1536 * GIB, "1.5TiB"),
        (2**63, "8EiB"),
    ],
)
def test_sizes_are_those_of_docker(size_bytes: int, shown: str) -> None:
    assert human_size(size_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (150, "2 minutes ago"),
        (3600, "About an hour ago"),
        (47 * 3600, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (15 * 86400, "2 weeks ago"),
        (90 * 86400, "3 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_ages_are_those_of_docker(seconds: float, shown: str) -> None:
    assert age((_NOW - timedelta(seconds=seconds)).isoformat(), _NOW) == shown
    assert age(None) == ""


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (None, ["NAME                   STATE", "a-rather-long-volume   error"]),
        (28, ["NAME                   STATE", "a-rather-long-volume   error"]),
        (27, ["NAME                  STATE", "a-rather-long-volume  error"]),
        (24, ["NAME               STATE", "a-rather-long-vo\u2026  error"]),
        (3, ["NAME          STATE", "a-rather-lo\u2026  error"]),
    ],
)
def test_tables_are_cut_to_fit_but_not_to_nothing(width: int | None, expected: list[str]) -> None:
    rows = [{"name": "a-rather-long-volume", "state": "error"}]
    assert table_lines(_COLUMNS[:2], rows, width=width, is_coloured=False) == expected


def test_words_that_ask_for_attention_are_coloured_and_controls_are_not_passed_on() -> None:
    rows = [{"name": "a\x1b[2Jb", "state": "error"}]
    (_, line) = table_lines(_COLUMNS[:2], rows, width=80, is_coloured=True)
    assert line == "a [2Jb   \x1b[31merror\x1b[0m"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Name}}", "db"),
        ("{{ .name }}\\t{{.SizeBytes}}\\n{{.Size_Bytes}}", "db\t5\n5"),
        ("{{.Usage.UsedBytes}} {{.None}}{{.None.Deeper}} {{.IsIt}}", "7  true"),
        ("{{json .Usage}} {{json .Name}}", '{"used_bytes": 7} "db"'),
        ("{{.Note}}", "a note"),
        ("{{.Usage}}", '{"used_bytes": 7}'),
    ],
)
def test_templates_have_the_fields_of_the_api_and_of_the_table(
    template: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Shown(template, _COLUMNS, Terminal()).list([_VOLUME])
    assert capsys.readouterr().out == f"{shown}\n"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("tabel", "there is no format 'tabel'. Write table, wide, json, yaml or a template"),
        ("{{.Nmae}}", "there is no field 'Nmae' here. Fields are isit, name, none, note, sizebytes"),
        ("{{.Name.First}}", "there is no field 'First' here. Fields are none"),
        ("{{range .}}{{.Name}}{{end}}", "cannot be read. Write fields only"),
    ],
)
def test_what_no_format_is_is_told(template: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        Shown(template, _COLUMNS, Terminal()).list([_VOLUME])
    assert told in str(error.value)


@pytest.mark.parametrize("given", [["size=5"], ["name"], ["name="], ["name=a", "name=b"]])
def test_filters_that_are_not_known_are_refused(given: list[str]) -> None:
    with pytest.raises(UsageError):
        read_filters(given, ("name", "state"))


def test_selectors_are_names_with_or_without_a_backend() -> None:
    assert (path_of("db"), path_of("loop/db")) == (("volumes", "db"), ("volumes", "loop", "db"))
    for wrong in ("", "/db", "a/", "a/b/c"):
        with pytest.raises(UsageError):
            path_of(wrong)


@pytest.mark.parametrize("daemon", ["0.3.9", "0.4.0", "0.5.1"])
def test_one_minor_version_apart_is_near_enough(daemon: str) -> None:
    check_versions("0.4.2", daemon)


@pytest.mark.parametrize("daemon", ["0.6.0", "0.2.0", "1.4.2", "", "x.y"])
def test_versions_further_apart_are_both_named(daemon: str) -> None:
    with pytest.raises(VersionMismatch) as error:
        check_versions("0.4.2", daemon)
    assert "0.4.2" in str(error.value)
    assert daemon in str(error.value)


def test_answered_errors_have_their_class_text_and_exit_code() -> None:
    body = {"code": "volume-in-use", "cause": "it is in use", "remedy": "Stop it", "volume": "db"}
    error = answered_error(body, "rm")
    assert isinstance(error, VolumeInUse)
    assert str(error) == 'it is in use [rm "db"]. Stop it.'
    newer = answered_error({**body, "code": "of-a-newer-version"})
    assert (exit_code_of(newer), exit_code_of(error)) == (1, 4)
    assert type(answered_error({**body, "code": "command-failed"})) is VolplugError
    assert exit_code_of(VolumeNotFound("no such volume")) == 3
    assert len(set(_CODES.values())) == 7


def test_the_sockets_are_those_where_volplug_serves() -> None:
    assert LOCAL_SOCKETS[0] == str(DEFAULT_CONTROL_SOCKET)
    assert LOCAL_SOCKETS[1] == str(DEFAULT_STATE_DIR / "control.sock")
    assert Settings().resolved_control_socket(is_managed=True) == DEFAULT_STATE_DIR / "control.sock"
