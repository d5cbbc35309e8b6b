"""The tries of one call, watched, so that giving up is possible whenever none of them is under way.

The SDK sleeps between tries, and its pace may hold a try back for long. Nothing of a call goes on meanwhile,
and a flag keeps it from ever beginning again. It works by two events of the SDK, both sent in the thread of
the call: `before-send` and `needs-retry`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from volplug.drivers.ebs.faults import is_unavailable


class GivenUp(Exception):
    """The call makes no further try."""


class Tries:
    """What one call does.

    Attributes:
        last: How the last try failed, for people.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = False
        self._given_up = False
        self.last = "no answer"

    def give_up(self) -> bool:
        """Let no further try begin, and tell whether none is under way either."""
        with self._lock:
            self._given_up = True
            return not self._under_way

    @contextmanager
    def made_here(self) -> Iterator[None]:
        """Watch what this thread does inside of the context.

        Raises:
            GivenUp: If the call was given up before it began.
        """
        with self._lock:
            if self._given_up:
                raise GivenUp
        _here.tries = self
        yield

    def begin(self) -> None:
        """Note that a request is about to be sent.

        Raises:
            GivenUp: If the call was given up.
        """
        with self._lock:
            if self._given_up:
                raise GivenUp
            self._under_way = True

    def failed(self, reason: str) -> None:
        """Note that the try under way has failed, but another may help.

        Raises:
            GivenUp: If the call was given up.
        """
        with self._lock:
            self._under_way = False
            self.last = reason.rstrip(".")
            if self._given_up:
                raise GivenUp


class _Here(threading.local):
    """The call that the current thread makes, or made last."""

    tries: Tries


_here = _Here()


def watch(events: Any) -> None:  # noqa: ANN401  # the SDK has no types
    """Connect the events of one client of the SDK to the calls of whatever thread uses it."""
    events.register_last("before-send", _before_send)  # after the SDK's pace
    events.register_first("needs-retry", _needs_retry)  # before the SDK sleeps
    events.register("before-parse", _before_parse)


def _before_send(**_: Any) -> None:  # noqa: ANN401  # the SDK's
    _here.tries.begin()


def _needs_retry(
    response: tuple[Any, Mapping[str, Any]] | None = None,
    caught_exception: Exception | None = None,
    **_: Any,  # noqa: ANN401  # the SDK's
) -> None:
    """Look at how a try ended; the SDK asks after every one."""
    if caught_exception is not None:
        _here.tries.failed(str(caught_exception))
    elif response is not None:
        http, answer = response
        error = answer.get("Error", {})
        if is_unavailable(str(error.get("Code", "")), int(http.status_code)):
            _here.tries.failed(f"{error.get('Code', '')}: {error.get('Message', '')}")


def _before_parse(response_dict: dict[str, Any], **_: Any) -> None:  # noqa: ANN401  # the SDK's
    """Empty what a proxy says of its own troubles: the SDK would not repeat what it cannot read."""
    if response_dict["status_code"] >= 500 and b"<Error>" not in response_dict["body"]:
        response_dict["body"] = b""
