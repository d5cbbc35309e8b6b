"""Masks secrets in the log and in the texts of errors.

Secrets are quoted by other parties' texts: an endpoint explains a wrong signature with the request, session
token included, and the SDK names the endpoint with the password in its URL. Such text reaches logs and errors
in many places, so it is masked at the exits: by a processor of the log, and when a `VolplugError` is made.

The known secrets are global to the process and not passed in: neither an error nor a library's log record has
dependencies, and a secret read by one part may be quoted by any other. No decision depends on them. Drivers
in other packages call `keep_secret`, too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
# Shorter ones are parts of ordinary words and numbers: masks would spoil the text, and reveal the secret.
_SHORTEST: Final = 6
# Each backend gets new ones every few hours, and old ones have expired.
_MOST_TEMPORARY: Final = 64
_MOST_QUOTED: Final = 40
_WORD: Final = re.compile(r"\S+")
# Tokens of the control API, which are kept nowhere: aiohttp quotes the line of a head that it cannot read.
_API_TOKEN: Final = re.compile(r"volplug_[A-Za-z0-9_-]{43}")
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
    """Mask a value in all logs and errors from now on.

    Args:
        value: The secret; very short ones are not masked.
        is_temporary: Whether it expires and is replaced; only the latest of such secrets are kept.
    """
    _secrets.add(value, is_temporary=is_temporary)


def masked(text: str) -> str:
    """Return a text without the secrets of this process, tokens of its control API, and passwords in URLs.

    To be called before a text is cut (as `quoted` does), because a part of a secret is not recognised.
    """
    if "://" in text:
        text = _WORD.sub(lambda word: _without_password(word[0]), text)
    text = _API_TOKEN.sub(MASK, text)
    return text if _secrets.pattern is None else _secrets.pattern.sub(MASK, text)


def quoted(value: object) -> str:
    """Return a wrong value as errors show it: in quotes, masked, and then cut."""
    whole = repr(masked(value) if isinstance(value, str) else value)
    return whole if len(whole) <= _MOST_QUOTED else f"{whole[:_MOST_QUOTED]}..."


def mask_event(_logger: object, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Mask all values of an event; a processor for structlog."""
    return {key: _masked_value(value) for key, value in event.items()}


def _without_password(word: str) -> str:
    """Mask a URL's password, up to the last @: a quoted password may contain an unencoded @."""
    user, at = _USER_IN_URL.search(word), word.rfind("@")
    return f"{word[: user.end()]}{MASK}{word[at:]}" if user is not None and user.end() <= at else word


def _masked_value(value: object) -> object:
    """Return the masked text of a value; a value without secrets is returned unchanged."""
    text = str(value)
    without = masked(text)
    return value if without == text else without
