"""The parts of a run and of its page, which can be measured alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import measures as m
from benchmarks import targets
from benchmarks.api import measures as api
from benchmarks.cinder import measures as cinder
from benchmarks.ebs import measures as ebs
from benchmarks.measures import Measure
from benchmarks.targets import Target
from benchmarks.zfs import measures as zfs

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Chapter:
    """One part of the run and its section of the page.

    Attributes:
        name: Its value of `--part`.
        measures: What is measured.
        targets: Its targets.
        peers: Peers and their titles, in the order of the columns.
        template: Its text, with placeholders for the tables.
    """

    name: str
    measures: Sequence[Measure]
    targets: Sequence[Target]
    peers: Mapping[str, str]
    template: Path


LOOP: Final = Chapter(
    "loop",
    m.MEASURES,
    targets.TARGETS,
    {
        m.VOLPLUG: "volplug",
        m.RCLONE: "rclone",
        m.LOCAL: "`local`",
        m.SHELL: "shell commands",
        m.BARE: "system calls",
        m.ECHO: "client and socket alone",
    },
    _HERE / "benchmarks.md.in",
)
EBS: Final = Chapter(
    "ebs",
    ebs.MEASURES,
    ebs.TARGETS,
    {m.VOLPLUG: "volplug", m.SDK: "bare calls"},
    _HERE / "ebs" / "page.md.in",
)
CINDER: Final = Chapter(
    "cinder",
    cinder.MEASURES,
    cinder.TARGETS,
    {m.VOLPLUG: "volplug", m.SDK: "bare calls"},
    _HERE / "cinder" / "page.md.in",
)
API: Final = Chapter("api", api.MEASURES, api.TARGETS, {m.VOLPLUG: "volplug"}, _HERE / "api" / "page.md.in")
ZFS: Final = Chapter(
    "zfs",
    zfs.MEASURES,
    zfs.TARGETS,
    {m.VOLPLUG: "volplug", m.SHELL: "the command alone"},
    _HERE / "zfs" / "page.md.in",
)
CHAPTERS: Final[Sequence[Chapter]] = (LOOP, API, EBS, CINDER, ZFS)


def assembled(page: str, written: Mapping[str, str]) -> str:
    """Replace the chapters of a page that were written now, and leave its others as they are.

    Args:
        page: The existing page; each chapter begins with the first line of its template.
        written: Chapters by their names.
    """
    parts = {**split(page), **written}
    return "\n".join(parts[each.name] for each in CHAPTERS if each.name in parts)


def split(page: str) -> dict[str, str]:
    """Return the chapters of a page by their names."""
    parts: dict[str, list[str]] = {}
    starts = {each.template.read_text().partition("\n")[0]: each.name for each in CHAPTERS}
    lines: list[str] = []
    for line in page.splitlines(keepends=True):
        if name := starts.get(line.rstrip("\n")):
            lines = parts.setdefault(name, [])
        lines.append(line)
    return {name: "".join(text).rstrip("\n") + "\n" for name, text in parts.items()}
