"""Mistakes in settings in plain words: where each is, what is wrong, and what is allowed. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails

from volplug.errors import ConfigurationError
from volplug.masking import quoted

CHECK_COMMAND: Final = "volplug check-config"
_NUMBER: Final = ("is not a number", "Write a number")
_WHOLE: Final = ("is not a whole number", "Write a whole number")
_TEXT: Final = ("is not a text", "Write it in quotes")
_PATH: Final = ("is not a path", "Write a path in quotes")
_BOOLEAN: Final = ("is neither true nor false", "Write true or false")
_CHOICE: Final = ("is not allowed", "Write {expected}")
_TABLE: Final = ("is not a table", "docs/configuration.md shows how to write one")
# pydantic's types of errors: what is wrong with the value, and what to write instead.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "greater_than": ("is not above {gt:g}", "Write a number above {gt:g}"),
    "greater_than_equal": ("is below {ge:g}", "Write {ge:g} or more"),
    "less_than_equal": ("is above {le:g}", "Write {le:g} or less"),
    "string_type": _TEXT,
    "path_type": _PATH,
    "bool_parsing": _BOOLEAN,
    "bool_type": _BOOLEAN,
    "enum": _CHOICE,
    "literal_error": _CHOICE,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
}

Location = tuple[int | str, ...]


def _refuse_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not a number", "Write a number")  # noqa: TRY004  # pydantic's
    return value


Number = Annotated[float, BeforeValidator(_refuse_boolean)]  # pydantic alone reads true as 1
WholeNumber = Annotated[int, BeforeValidator(_refuse_boolean)]


def combined(mistakes: Sequence[ConfigurationError]) -> ConfigurationError:
    """Return one error for several mistakes: it describes the first and counts the others."""
    first, others = mistakes[0], len(mistakes) - 1
    if not others:
        return first
    number = f"{others} more mistake{'s' if others > 1 else ''}"
    return ConfigurationError(
        f"{first.cause} (and {number}, see {CHECK_COMMAND})", first.remedy, mistakes=mistakes
    )


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> ConfigurationError:
    """Return the error for an unknown name.

    Args:
        kind: What is named: a key, a flag.
        name: The unknown name.
        known: The allowed names.
        where: Where it is, which is shown; `name` by default.
    """
    names = sorted(known)
    near = nearest(name, names)
    hint = f"Did you mean {near}? " if near else ""
    return ConfigurationError(f"unknown {kind} {where or name}", f"{hint}Allowed are {', '.join(names)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like another one, or ""; case, `-` and `_` are ignored."""
    by_folded = {_fold(each): each for each in known}
    near = difflib.get_close_matches(_fold(name), by_folded, n=1)
    return by_folded[near[0]] if near else ""


def described(
    error: ValidationError,
    known: Collection[str],
    place: Callable[[Location], str],
    secrets: Collection[str] = (),
) -> list[ConfigurationError]:
    """Return pydantic's errors in plain words.

    Args:
        error: What a model raised.
        known: The keys of the model.
        place: Returns where a value is: its key and file, its variable or its flag.
        secrets: The keys whose values are not shown.
    """
    return [
        _described(detail, known, place(detail["loc"]), secrets) for detail in error.errors(include_url=False)
    ]


def _described(
    detail: ErrorDetails, known: Collection[str], where: str, secrets: Collection[str]
) -> ConfigurationError:
    kind, location, value, context = detail["type"], detail["loc"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown("key", str(location[-1]), known, where)
    if kind == "missing":
        return ConfigurationError(f"{where} is missing")
    if kind == "value_error":
        return ConfigurationError(f"{where}: {context['error'].args[0]}", *context["error"].args[1:])
    if isinstance(value, dict) and f"{location[0]}s" in known:
        return ConfigurationError(
            f"{where} is a table", f"Did you mean [{location[0]}s.{next(iter(value), 'NAME')}]?"
        )
    found = "its value" if location[0] in secrets else _shown(value)
    if kind not in _WORDS:
        return ConfigurationError(f"{where}: {found} is not allowed: {detail['msg']}")
    what, remedy = (text.format_map(context) for text in _WORDS[kind])
    return ConfigurationError(f"{where}: {found} {what}", remedy.replace("'", ""))


def _shown(value: Any) -> str:  # noqa: ANN401  # unchecked contents of a file
    """Return a value as an error shows it: short, and the contents of a table not at all."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return quoted(value)


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
