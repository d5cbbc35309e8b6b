"""Logging: one line per event on standard output, which dockerd and journald read. Secrets are masked."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final

import structlog

from volplug.masking import mask_event

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

# sd-daemon(3): the priority of a line for journald.
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure_logging(level: str) -> None:
    """Log events of this level and above, and libraries' warnings in the same format."""
    number = logging.getLevelNamesMapping()[level.upper()]
    described: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_event,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _Renderer()],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    structlog.configure(
        processors=[*described, _Renderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )


class _Renderer:
    """Writes logfmt; for journald, each line begins with its priority."""

    def __init__(self) -> None:
        self._logfmt = structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], bool_as_flag=False
        )
        self._is_journal = _is_journal()

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        priority = f"<{_PRIORITIES[event['level']]}>" if self._is_journal else ""
        return priority + self._logfmt(logger, name, event)


def _is_journal() -> bool:
    """Tell whether standard output is the journal; see JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
