"""Logging: one line per event, which journald or dockerd reads. Secrets are masked.

Levels reach both. A line for the journal begins with its priority. dockerd logs standard output of a managed
plugin as info and its standard error as error (makeLoggerStreams in moby's plugin/executor), so warnings
and errors go to the latter. Both add a time of their own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog
from structlog.contextvars import get_contextvars

from volplug.managed import HostPaths, event_paths, unchanged
from volplug.masking import mask_event

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_FIRST: Final = ("timestamp", "level", "event")
# sd-daemon(3): the priority of a line for journald.
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure_logging(
    level: str, log_format: str = "text", *, is_managed: bool = False, as_on_host: HostPaths = unchanged
) -> None:
    """Log events of this level and above, and libraries' warnings in the same format.

    Args:
        level: debug, info, warning or error.
        log_format: text (logfmt) or json.
        is_managed: Whether dockerd runs this process as a managed plugin.
        as_on_host: Replaces paths of this process by those of the host.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    is_journal = _is_journal()
    stamp: list[Processor] = [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    described: list[Processor] = [
        add_context,
        structlog.processors.add_log_level,
        *([] if is_journal or is_managed else stamp),
        structlog.processors.format_exc_info,
        mask_event,
        event_paths(as_on_host),
    ]
    renderer = _Renderer(_json if log_format == "json" else _LOGFMT, with_priority=is_journal)
    serious = sys.stderr if is_managed else sys.stdout
    handler = logging.StreamHandler(serious)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    structlog.configure(
        processors=[*described, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(
            structlog.PrintLogger(sys.stdout).msg, structlog.PrintLogger(serious).msg
        ),
        cache_logger_on_first_use=True,
    )


def add_context(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Add the operation, request and mount that this is part of, where the event itself does not name them.

    They are bound to the task that does the work: see `structlog.contextvars`.
    """
    for key, value in get_contextvars().items():
        event.setdefault(key, value)
    return event


def _json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in _FIRST if key in event}
    return json.dumps({**first, **event}, default=str)


_LOGFMT: Final = structlog.processors.LogfmtRenderer(key_order=_FIRST, drop_missing=True, bool_as_flag=False)


class _Lines:
    """Writes finished lines: those of warnings and errors maybe to another stream than all others."""

    def __init__(self, write: Callable[[str], None], write_serious: Callable[[str], None]) -> None:
        self.debug = self.info = write
        self.warning = self.error = self.critical = write_serious


class _Renderer:
    """Writes a line, for the journal with the priority before it."""

    def __init__(
        self, render: Callable[[WrappedLogger, str, EventDict], str], *, with_priority: bool
    ) -> None:
        self._render = render
        self._with_priority = with_priority

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        priority = f"<{_PRIORITIES[event['level']]}>" if self._with_priority else ""
        return priority + self._render(logger, name, event)


def _is_journal() -> bool:
    """Tell whether standard output is the journal; see JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
