"""Mistakes in settings in plain words: where each is, what is wrong, and what is allowed. Pure.

Below the drivers, which describe the mistakes in their tables with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Final

from pydantic import BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from volplug.errors import ConfigurationError, VolplugError
from volplug.masking import quoted

_NO_DASHES: Final = str.maketrans("", "", "-_")
# pydantic's types of errors: what is wrong with the value, and what to write instead.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    kind: words
    for kinds, words in {
        "float_parsing float_type finite_number": ("is not a number", "Write a number"),
        "int_parsing int_type int_from_float": ("is not a whole number", "Write a whole number"),
        "greater_than": ("is not above {gt:g}", "Write a number above {gt:g}"),
        "greater_than_equal": ("is below {ge:g}", "Write {ge:g} or more"),
        "less_than_equal": ("is above {le:g}", "Write {le:g} or less"),
        "string_type": ("is not a text", "Write it in quotes"),
        "path_type": ("is not a path", "Write a path in quotes"),
        "bool_parsing bool_type": ("is neither true nor false", "Write true or false"),
        "enum literal_error": ("is not allowed", "Write {expected}"),
        "dict_type mapping_type model_type": ("is not a table", "See docs/configuration.md"),
    }.items()
    for kind in kinds.split()
}

Place = Callable[..., str]


def _refuse_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "a boolean")
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
        f"{first.cause} (and {number}, see volplug check-config)", first.remedy, mistakes=mistakes
    )


def placed(where: str, error: VolplugError) -> ConfigurationError:
    """Return an error as the mistake at a place."""
    return ConfigurationError(f"{where}: {error.cause}", error.remedy)


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> ConfigurationError:
    """Return the error for an unknown key or flag; `where` is shown in place of a name alone."""
    names = sorted(known)
    return ConfigurationError(
        f"unknown {kind} {where or name}", f"{did_you_mean(name, names)}Allowed are {', '.join(names)}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a remedy that names the nearest match, or ""."""
    near = nearest(name, known)
    return f"Did you mean {near}? " if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like another one, or ""; case, `-` and `_` are ignored."""
    by_folded = {each.lower().translate(_NO_DASHES): each for each in known}
    near = difflib.get_close_matches(name.lower().translate(_NO_DASHES), by_folded, n=1)
    return by_folded[near[0]] if near else ""


def described(
    error: ValidationError, known: Collection[str], place: Place, secrets: Collection[str] = ()
) -> list[ConfigurationError]:
    """Return pydantic's errors in plain words; values of `secrets` are not shown.

    `known` are the keys of the model; `place` returns where a value is: its key and file, variable or flag.
    """
    return [_described(detail, known, place, secrets) for detail in error.errors(include_url=False)]


def _described(
    detail: ErrorDetails, known: Collection[str], place: Place, secrets: Collection[str]
) -> ConfigurationError:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    location = [part for part in detail["loc"] if part != "[key]"]  # pydantic's, for what is wrong with a key
    where = place(*location)
    if kind == "extra_forbidden":
        return unknown("key", str(location[-1]), known, where)
    if kind == "missing":
        return ConfigurationError(f"{where} is missing")
    if kind == "value_error":
        what, *remedy = context["error"].args
        return ConfigurationError(f"{where}: {what}", *remedy)
    if isinstance(value, dict) and f"{location[0]}s" in known:
        meant = f"{location[0]}s.{next(iter(value), 'NAME')}"
        return ConfigurationError(f"{where} is a table", f"Did you mean [{meant}]?")
    found = "its value" if location[0] in secrets else _shown(value)
    if kind not in _WORDS:
        return ConfigurationError(f"{where}: {found} is not allowed: {detail['msg']}")
    what, remedy = (text.format_map(context) for text in _WORDS[kind])
    return ConfigurationError(f"{where}: {found} {what}", remedy.replace("'", ""))


def _shown(value: object) -> str:
    """Return a value as the file has it; the contents of a table, which may be secret, not at all."""
    words = {bool: str(value).lower(), dict: "a table", list: "a list"}
    return words.get(type(value)) or quoted(value)
