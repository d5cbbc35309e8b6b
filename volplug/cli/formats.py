"""What `--format` chooses: table, wide, json, yaml, or a template with fields as of the docker command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from volplug.api.client import Json
from volplug.api.client_errors import UsageError
from volplug.cli.tables import Column, table_lines
from volplug.cli.terminal import Terminal

WORDS: Final = ("table", "wide", "json", "yaml")
_FIELD: Final = re.compile(r"{{\s*(?P<json>json\s+)?\.(?P<path>\w*(?:\.\w+)*)\s*}}", re.ASCII)
_ESCAPES: Final = (("\\t", "\t"), ("\\n", "\n"))


class Shown:
    """How elements are shown.

    Args:
        chosen: The value of `--format`.
        columns: Of the table, and fields of templates beside those of the elements.
        terminal: Where they are shown.
    """

    def __init__(self, chosen: str, columns: Sequence[Column], terminal: Terminal) -> None:
        if chosen not in WORDS and "{{" not in chosen:
            raise UsageError(
                f"there is no format {chosen!r}",
                f"Write {', '.join(WORDS)} or a template such as {{{{.Name}}}}",
            )
        self._chosen = chosen
        self._columns = columns
        self._terminal = terminal

    @property
    def is_table(self) -> bool:
        """Tell whether lines of a table are shown."""
        return self._chosen in ("table", "wide")

    def list(self, elements: Sequence[Json]) -> None:
        """Show all elements of a list."""
        if self.is_table:
            columns = [each for each in self._columns if self._chosen == "wide" or not each.is_wide]
            terminal = self._terminal
            width = None if self._chosen == "wide" else terminal.width
            for line in table_lines(columns, elements, width=width, is_coloured=terminal.is_coloured):
                terminal.write(line)
        elif self._chosen == "json":
            self._terminal.write(json.dumps(elements, indent=4, ensure_ascii=False))
        elif self._chosen == "yaml":
            self._terminal.write(_yaml(elements))
        else:
            for element in elements:
                self._terminal.write(self._filled(element))

    def one(self, element: Json, as_line: Callable[[Json], str]) -> None:
        """Show an element as soon as it is there: JSON in one line, and `as_line` in place of a table."""
        if self.is_table:
            self._terminal.write(as_line(element))
        elif self._chosen == "json":
            self._terminal.write(json.dumps(element, ensure_ascii=False))
        elif self._chosen == "yaml":
            self._terminal.write(f"---\n{_yaml(element)}")
        else:
            self._terminal.write(self._filled(element))

    def _filled(self, element: Json) -> str:
        """Return the template with an element's fields in it.

        Raises:
            UsageError: If the template names a field that the element does not have.
        """
        template = self._chosen
        for written, meant in _ESCAPES:
            template = template.replace(written, meant)
        filled = _FIELD.sub(lambda match: self._field(element, match), template)
        if "{{" in _FIELD.sub("", template):
            raise UsageError(
                f"the template {self._chosen!r} cannot be read",
                "Write fields only, such as {{.Name}}, {{.Usage.UsedBytes}}, {{json .}}",
            )
        return filled

    def _field(self, element: Json, match: re.Match[str]) -> str:
        value: Any = element
        for name in filter(None, match["path"].split(".")):
            value = self._member(value, name, is_first=value is element)
        return json.dumps(value, ensure_ascii=False) if match["json"] else _plain(value)

    def _member(self, value: Any, name: str, *, is_first: bool) -> Any:  # noqa: ANN401  # as JSON is
        if value is None:
            return None
        known = value if isinstance(value, Mapping) else {}
        by_folded = {_folded(key): key for key in known}
        if _folded(name) in by_folded:
            return known[by_folded[_folded(name)]]
        columns = {_folded(column.header): column for column in self._columns} if is_first else {}
        if _folded(name) in columns:
            return columns[_folded(name)].shown(value)
        fields = ", ".join(sorted({*by_folded, *columns})) or "none"
        raise UsageError(f"there is no field {name!r} here", f"Fields are {fields}; case and _ are ignored")


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _yaml(value: object) -> str:
    import yaml  # slow to load, and seldom asked for

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip("\n")
