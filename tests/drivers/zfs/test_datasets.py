"""Datasets as `zfs get` prints them."""

from datetime import UTC, datetime

import pytest

from volplug.drivers.zfs.datasets import GUID, Property, read_datasets
from volplug.errors import UnexpectedState

_USER = (GUID, "org.volplug:name")
# Verbatim from zfs-fuse 0.7.0, but for the order of the datasets' properties.
_DB = """\
tank/volplug/db\ttype\tfilesystem\t-
tank/volplug/db\tguid\t1859207659151288388\t-
tank/volplug/db\tcreation\t1795998504\t-
tank/volplug/db\tused\t52658176\t-
tank/volplug/db\treferenced\t114688\t-
tank/volplug/db\tavailable\t123342101\t-
tank/volplug/db\trefquota\t123456789\tlocal
tank/volplug/db\trefreservation\t52428800\tlocal
tank/volplug/db\tmountpoint\tlegacy\tlocal
tank/volplug/db\tmounted\tno\t-
tank/volplug/db\torigin\t-\t-
tank/volplug/db\torg.volplug:guid\t1859207659151288388\tlocal
tank/volplug/db\torg.volplug:name\tMy_Db\tlocal
"""
_SNAPSHOT = """\
tank/volplug@s1\ttype\tsnapshot\t-
tank/volplug@s1\tguid\t3985668726394916088\t-
tank/volplug@s1\tcreation\t1795998504\t-
tank/volplug@s1\tused\t0\t-
tank/volplug@s1\treferenced\t114688\t-
tank/volplug@s1\tavailable\t-\t-
tank/volplug@s1\trefquota\t-\t-
tank/volplug@s1\trefreservation\t-\t-
tank/volplug@s1\tmountpoint\t-\t-
tank/volplug@s1\tmounted\t-\t-
tank/volplug@s1\torigin\t-\t-
tank/volplug@s1\torg.volplug:guid\t-\t-
tank/volplug@s1\torg.volplug:name\t-\t-
"""


def _changed(what: str, value: str, source: str = "local", *, name: str = "tank/volplug/db") -> str:
    lines = [line.replace("tank/volplug/db", name) for line in _DB.splitlines()]
    return "".join(
        f"{name}\t{what}\t{value}\t{source}\n" if line.split("\t")[1] == what else f"{line}\n"
        for line in lines
    )


def test_a_dataset_is_read_and_snapshots_are_left_out() -> None:
    (found,) = read_datasets(_SNAPSHOT + _DB, _USER)
    assert (found.name, found.guid) == ("tank/volplug/db", "1859207659151288388")
    assert (found.used, found.referenced, found.available) == (52658176, 114688, 123342101)
    assert (found.refquota, found.refreservation) == (123456789, 52428800)
    assert (found.mountpoint, found.is_mounted, found.origin) == ("legacy", False, "")
    assert found.created_at == datetime(2026, 11, 30, 0, 28, 24, tzinfo=UTC)
    assert found.own == {GUID: found.guid, "org.volplug:name": "My_Db"}
    assert found.is_volume


@pytest.mark.parametrize(
    ("value", "source", "counts"),
    [
        ("1859207659151288388", "local", True),
        ("1859207659151288388", "received", True),
        ("1859207659151288388", "inherited from tank/volplug", False),
        ("1", "received", False),  # a copy by `zfs send -p`
        ("-", "-", False),
    ],
)
def test_a_volume_has_its_own_guid_as_a_property_of_its_own(value: str, source: str, counts: bool) -> None:
    (found,) = read_datasets(_changed(GUID, value, source), _USER)
    assert found.is_volume is counts


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\n\n\tlocal", "-", "tank\torg.volplug:guid\t1\tlocal"])
def test_any_value_of_a_user_property_is_read(value: str) -> None:
    output = _changed("org.volplug:name", value) + _changed("used", "1", "-", name="tank/volplug/web")
    db, web = read_datasets(output, _USER)
    assert db.properties["org.volplug:name"] == Property(value, "local")
    assert (web.name, web.used) == ("tank/volplug/web", 1)


def test_a_dataset_that_another_feigns_in_a_value_is_refused() -> None:
    feigned = _changed("org.volplug:name", "x", name="tank/volplug/web")
    output = _changed("org.volplug:name", f"x\tlocal\n{feigned.removesuffix(chr(10))}\n")
    with pytest.raises(UnexpectedState, match="twice"):
        read_datasets(output + _changed("used", "1", "-", name="tank/volplug/web"), _USER)


@pytest.mark.parametrize(
    "output", [_DB[:-30], _DB[_DB.index("\n") + 1 :], "noise\n", _changed("used", "1.5M")]
)
def test_output_that_is_cut_or_has_no_exact_numbers_is_refused(output: str) -> None:
    with pytest.raises(UnexpectedState):
        read_datasets(output, _USER)


def test_no_output_is_no_dataset() -> None:
    assert read_datasets("", _USER) == ()
