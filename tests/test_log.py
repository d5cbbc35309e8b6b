import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.contextvars import bound_contextvars

from volplug.log import add_context

PROGRAM = """
import logging, sys, structlog
from volplug.log import configure_logging
configure_logging(sys.argv[1], *sys.argv[3:], is_managed=sys.argv[2] == "managed")
log = structlog.get_logger()
log.debug("a debug event", volume="db")
log.info("volume attached", volume="db")
log.warning("detach failed", volume="db")
try:
    raise ValueError("why")
except ValueError:
    log.exception("internal error")
logging.getLogger("library").warning("a library warns")
"""


def output(level: str, form: str, *log_format: str, **streams: object) -> tuple[list[str], list[str]]:
    done = subprocess.run(  # type: ignore[call-overload]  # streams are what tests redirect
        [sys.executable, "-c", PROGRAM, level, form, *log_format], check=True, text=True, **streams
    )
    return (done.stdout or "").splitlines(), (done.stderr or "").splitlines()


@pytest.mark.parametrize(("level", "count"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 1)])
def test_events_of_a_level_and_above_are_logged_with_their_time(level: str, count: int) -> None:
    lines, errors = output(level, "service", capture_output=True)
    assert errors == []
    assert len(lines) == count
    assert all(line.startswith("timestamp=20") and " level=" in line for line in lines)


def test_the_log_of_a_managed_plugin_leaves_time_to_dockerd_and_sends_what_is_serious_to_stderr() -> None:
    lines, errors = output("debug", "managed", capture_output=True)
    assert lines == [
        'level=debug event="a debug event" volume=db',
        'level=info event="volume attached" volume=db',
    ]
    assert errors[0] == 'level=warning event="detach failed" volume=db'
    assert errors[1].startswith('level=error event="internal error"')
    assert errors[2] == 'level=warning event="a library warns"'


def test_lines_for_the_journal_begin_with_their_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with path.open("w") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        output("debug", "service", stdout=journal)
    lines = path.read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "<7>level=debug",
        "<6>level=info",
        "<4>level=warning",
        "<3>level=error",
        "<4>level=warning",
    ]


def test_as_json_each_line_is_an_object_with_time_level_and_event_first() -> None:
    lines, _ = output("debug", "service", "json", capture_output=True)
    events = [json.loads(line) for line in lines]
    assert {tuple(event)[:3] for event in events} == {("timestamp", "level", "event")}
    assert [(event["level"], event["event"], event.get("volume")) for event in events] == [
        ("debug", "a debug event", "db"),
        ("info", "volume attached", "db"),
        ("warning", "detach failed", "db"),
        ("error", "internal error", None),
        ("warning", "a library warns", None),
    ]
    assert "ValueError: why" in events[3]["exception"]


def test_a_line_names_the_operation_that_it_is_part_of_unless_it_names_another() -> None:
    with bound_contextvars(operation="mount run-1", mount_id="a"):
        added = add_context(None, "info", {"event": "x", "operation": "detach run-2"})
    assert added == {"event": "x", "operation": "detach run-2", "mount_id": "a"}
    assert add_context(None, "info", {"event": "x"}) == {"event": "x"}
