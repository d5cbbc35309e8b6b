"""What the documents show: the commands of a section, and files by the name in their first line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_HEADING: Final = re.compile(r"^#{1,4} (.+)$")
_FENCE: Final = "```"
_INDENT: Final = "    "


def files(page: str) -> dict[str, str]:
    """Return the files that a page shows, by the name in their first line."""
    pattern = r"^```(?:yaml|toml|json)\n(?:# )?(\S+)\n(.*?)^```$"
    return dict(re.findall(pattern, (ROOT / page).read_text(), re.MULTILINE | re.DOTALL))


def commands(page: str, section: str) -> list[str]:
    """Return the indented blocks of a section, each a script."""
    found = [script for heading, script in _scripts((ROOT / page).read_text()) if heading == section]
    assert found, f"{page} has no commands in a section {section!r}"
    return found


def sections_with_commands(page: str) -> list[str]:
    """Return the headings of a page's sections that show commands."""
    return list(dict.fromkeys(heading for heading, _ in _scripts((ROOT / page).read_text())))


def _scripts(text: str) -> Iterator[tuple[str, str]]:
    heading, block, is_fenced = "", list[str](), False
    for line in [*text.splitlines(), "."]:
        if line.startswith(_INDENT) and not is_fenced:
            block.append(line.removeprefix(_INDENT))
            continue
        if block:
            yield heading, "\n".join(block) + "\n"
            block = []
        is_fenced ^= line.startswith(_FENCE)
        if (match := _HEADING.match(line)) and not is_fenced:
            heading = match[1]
