from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from volplug.drivers.zfs.attachments import Attached, Attachments
from volplug.errors import HostError

DB, OLD = "1859207659151288388", "5811670213066649139"


def test_a_note_is_found_by_later_processes_until_it_is_dropped(tmp_path: Path) -> None:
    notes = Attachments(tmp_path / "a", "boot-1")
    assert notes.now().notes == {}
    notes.note(DB, "db.v-1_2")
    notes.note(DB, "db.v-1_2")
    notes.note(OLD, "old")
    again = Attachments(tmp_path / "a", "boot-1")
    assert again.now().notes == {DB: "db.v-1_2", OLD: "old"}
    again.drop(DB)
    again.drop(DB)
    assert notes.now().notes == {OLD: "old"}


def test_a_note_ends_with_the_boot(tmp_path: Path) -> None:
    Attachments(tmp_path / "a", "boot-1").note(DB, "db")
    later = Attachments(tmp_path / "a", "boot-2")
    assert later.now().notes == {}
    later.note(OLD, "old")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["boot-2"]


def test_first_notes_that_are_written_at_once_are_all_kept(tmp_path: Path) -> None:
    for round_number in range(20):
        notes = Attachments(tmp_path / str(round_number), "boot-1")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number, notes=notes: notes.note(str(number), f"v{number}"), range(8)))
        assert len(notes.now().notes) == 8


@pytest.mark.parametrize(
    ("attached", "is_attached"),
    [
        (Attached({}, frozenset()), False),
        (Attached({DB: "db"}, frozenset()), True),
        (Attached({}, frozenset({"tank/db"})), True),
        (Attached({OLD: "db"}, frozenset({"tank/db"})), False),
        (Attached({OLD: "db", DB: "db"}, frozenset({"tank/db"})), True),
        (Attached({OLD: "other"}, frozenset({"tank/db", "tank/other"})), True),
        (Attached({OLD: "other"}, frozenset({"tank/db2"})), False),
    ],
)
def test_what_is_noted_or_mounted_is_attached_but_no_other_of_the_name(
    attached: Attached, is_attached: bool
) -> None:
    assert attached.has(DB, "tank/db") is is_attached


@pytest.mark.parametrize("call", [Attachments.now, lambda notes: notes.note(DB, "db")], ids=["read", "write"])
def test_notes_that_cannot_be_used_are_an_error_and_conclude_nothing(
    tmp_path: Path, call: Callable[[Attachments], object]
) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(HostError, match="Not a directory"):
        call(Attachments(tmp_path / "a", "boot-1"))
