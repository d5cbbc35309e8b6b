"""Tables as the docker command prints them, cut to fit a terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from volplug.api.client import Json

_GAPS: Final = ("   ", "  ")  # the second where the table does not fit with the first
_CUT: Final = "\u2026"
_SHORTEST: Final = 12  # what is cut to less says nothing
# Words of the API that ask for attention, and their colours.
_COLOURS: Final[Mapping[str, str]] = {
    "error": "31",
    "failed": "31",
    "incomplete": "31",
    "unusable": "31",
    "cancelled": "33",
    "running": "36",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        header: In capitals; its lower case is the field's name in templates.
        shown: Returns its text of an element.
        is_wide: Whether only the format `wide` has it.
        is_long: Whether it is cut before all others.
    """

    header: str
    shown: Callable[[Json], str]
    is_wide: bool = False
    is_long: bool = False


def table_lines(
    columns: Sequence[Column], elements: Sequence[Json], *, width: int | None, is_coloured: bool
) -> list[str]:
    """Return the lines of a table.

    Args:
        columns: Those to show.
        elements: One for each line.
        width: How many characters a line may have; None for any number.
        is_coloured: Whether words that ask for attention are coloured.
    """
    rows = [[_one_line(column.shown(element)) for column in columns] for element in elements]
    headers = [column.header for column in columns]
    widths = [max(map(len, cells)) for cells in zip(headers, *rows, strict=True)]
    gap = _GAPS[0]
    if width is not None and sum(widths) + len(gap) * (len(columns) - 1) > width:
        gap = _GAPS[1]
        room = width - len(gap) * (len(columns) - 1)
        widths = _fitted(widths, [column.is_long for column in columns], room)
    lines = [_line(headers, widths, gap, is_coloured=False)]
    return lines + [_line(row, widths, gap, is_coloured=is_coloured) for row in rows]


def _fitted(widths: Sequence[int], are_long: Sequence[bool], room: int) -> list[int]:
    """Cut the widest of the long columns until the line fits, then the widest of all others."""
    fitted = list(widths)
    for places in ([at for at, is_long in enumerate(are_long) if is_long], range(len(widths))):
        while sum(fitted) > room:
            widest = max(places, key=fitted.__getitem__, default=0)
            if fitted[widest] <= _SHORTEST:
                break
            fitted[widest] -= 1
    return fitted


def _line(cells: Sequence[str], widths: Sequence[int], gap: str, *, is_coloured: bool) -> str:
    shown = []
    for cell, width in zip(cells, widths, strict=True):
        text = cell if len(cell) <= width else cell[: width - 1] + _CUT
        colour = _COLOURS.get(cell) if is_coloured else None
        padding = " " * (width - len(text))
        shown.append(f"\x1b[{colour}m{text}\x1b[0m{padding}" if colour else text + padding)
    return gap.join(shown).rstrip()


def _one_line(text: str) -> str:
    """Return a text without what would disturb a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
