"""Masking: keeps secrets out of the log and of the texts of errors.

What quotes a secret is foreign text: an endpoint explains a wrong signature by the request, session token
included, and the SDK names the endpoint with the password in its URL. Such text gets into logs and errors in
many places, so it is masked where it leaves: by a processor of the log, and when a `VolplugError` is made.

The known secrets belong to the process and are not passed in: neither an error nor a record of a library has
dependencies, and what one part has read may be quoted by any other. Nothing is decided by them. Drivers in
packages of their own call `keep_secret`, too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
# Shorter ones are parts of ordinary words and numbers: it would spoil the text, and the holes give them away.
_SHORTEST: Final = 6
# Each backend gets new ones every few hours, and an old one has expired.
_MOST_TEMPORARY: Final = 64
_WORD: Final = re.compile(r"\S+")
_USER_IN_URL: Final = re.compile(r"://[^/?#:]*:")


class _Secrets:
    """The known secrets, as one pattern; read and added to by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasting: frozenset[str] = frozenset()
        self._temporary: tuple[str, ...] = ()
        self.pattern: re.Pattern[str] | None = None

    def add(self, value: str, *, is_temporary: bool) -> None:
        if len(value) < _SHORTEST or value in self._lasting or value in self._temporary:
            return
        with self._lock:
            if is_temporary:
                self._temporary = (*self._temporary, value)[-_MOST_TEMPORARY:]
            else:
                self._lasting |= {value}
            # The longest first: one secret may be a part of another.
            known = sorted({*self._lasting, *self._temporary}, key=len, reverse=True)
            self.pattern = re.compile("|".join(map(re.escape, known)))


_secrets = _Secrets()


def keep_secret(value: str, *, is_temporary: bool = False) -> None:
    """Mask a value in everything that is said from now on.

    Args:
        value: The secret; the shortest ones are not masked.
        is_temporary: Whether it is replaced by others again and again; only the latest of those are kept.
    """
    _secrets.add(value, is_temporary=is_temporary)


def masked(text: str) -> str:
    """Return a text without the secrets of this process and without passwords in URLs.

    To be called before a text is cut, for a part of a secret is not recognised.
    """
    if "://" in text:
        text = _WORD.sub(lambda word: _without_password(word[0]), text)
    return text if _secrets.pattern is None else _secrets.pattern.sub(MASK, text)


def mask_event(_logger: object, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Mask all values of an event: a processor of structlog."""
    return {key: _masked_value(value) for key, value in event.items()}


def _without_password(word: str) -> str:
    """Mask a URL's password, up to the last @: one that an error quotes may not be encoded as it should."""
    user, at = _USER_IN_URL.search(word), word.rfind("@")
    return f"{word[: user.end()]}{MASK}{word[at:]}" if user is not None and user.end() <= at else word


def _masked_value(value: object) -> object:
    """Mask what a value looks like; one without secrets stays what it is."""
    text = str(value)
    without = masked(text)
    return value if without == text else without
