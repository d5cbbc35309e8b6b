"""Reports of doctor: as lines for people, as JSON for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from volplug import __version__
from volplug.findings import Finding, Level
from volplug.masking import masked

_COLOURS: Final = {Level.GREEN: "\x1b[32m", Level.YELLOW: "\x1b[33m", Level.RED: "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"
_LEVEL_WIDTH: Final = max(len(level) for level in Level)


@dataclass(frozen=True, slots=True)
class Treated:
    """A finding, and what was done about it.

    Attributes:
        finding: As it was found.
        mended: What was done; empty if nothing was.
        failure: Why it could not be mended; empty if that was not tried, or it was.
    """

    finding: Finding
    mended: str = ""
    failure: str = ""


def line_of(finding: Finding, check_width: int, *, is_coloured: bool) -> str:
    """Return the one line of a finding: level, check, subject, cause and remedy."""
    level = f"{finding.level:{_LEVEL_WIDTH}}"
    if is_coloured:
        level = f"{_COLOURS[finding.level]}{level}{_PLAIN}"
    subject = f"{finding.subject}: " if finding.subject else ""
    remedy = f". {finding.remedy}" if finding.remedy else ""
    text = " ".join(masked(f"{subject}{finding.message}{remedy}").split())
    return f"{level}  {finding.check:{check_width}}  {text}"


def lines_of(findings: Sequence[Finding], *, is_coloured: bool) -> Sequence[str]:
    """Return a line for each finding, and one that counts them."""
    width = max((len(finding.check) for finding in findings), default=0)
    counts = Counter(finding.level for finding in findings)
    counted = ", ".join(f"{counts[level]} {level}" for level in Level)
    return [*(line_of(each, width, is_coloured=is_coloured) for each in findings), counted]


def json_of(treated: Sequence[Treated]) -> dict[str, Any]:
    """Return the document of `--format json`, described in docs/doctor.md."""
    return {
        "version": __version__,
        "level": worst_of(treated).value,
        "findings": [
            {
                "check": each.finding.check,
                "level": each.finding.level.value,
                "subject": masked(each.finding.subject),
                "message": masked(each.finding.message),
                "remedy": masked(each.finding.remedy),
                "fix": each.finding.fix.question if each.finding.fix else None,
                "mended": each.mended or None,
                "failure": each.failure or None,
            }
            for each in treated
        ],
    }


def worst_of(treated: Sequence[Treated]) -> Level:
    """Return how serious the worst finding is that was not mended."""
    left = {each.finding.level for each in treated if not each.mended}
    return next((level for level in (Level.RED, Level.YELLOW) if level in left), Level.GREEN)
