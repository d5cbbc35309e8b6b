"""Findings: what a check of `volplug doctor` found, how serious it is, and how it is mended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a finding is. RED: volumes cannot be used, or data is at risk. YELLOW: they soon may be."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Fix:
    """A safe repair: it loses nothing, whenever it is interrupted, and refuses what is no longer as found.

    Attributes:
        question: What is to be done, as a question, such as `Unmount the stale mount at PATH?`.
        apply: Does it and returns what was done, as a sentence without a full stop; raises a VolplugError if
            it cannot be done.
    """

    question: str
    apply: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check on one thing.

    Attributes:
        check: Name of the check, in lower case with `-`.
        level: How serious it is.
        subject: What was checked: a path, volume, backend or program; empty for the host as a whole.
        message: Cause first, on one line; for GREEN, what is well.
        remedy: What to do, with the exact command if there is one; empty for GREEN.
        fix: A repair that doctor can do itself; None if an operator has to.
    """

    check: str
    level: Level
    subject: str
    message: str
    remedy: str = ""
    fix: Fix | None = None
