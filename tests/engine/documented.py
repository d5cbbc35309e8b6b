"""The files that docs/compose.md shows, by the name in their first line."""

import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs/compose.md"

FILES = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL))
