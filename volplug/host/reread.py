"""A value that is read from files, and read again when one of them has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from volplug.host.threads import Pool

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")
_Signature = tuple[tuple[int, ...], ...]


class FromFiles(Generic[_T]):
    """What files say now. Nothing watches them: they are looked at when the value is needed.

    Args:
        pool: Its threads read.
        paths: The files.
        read: Reads them. If it fails later on, the value before is kept: a file may be half written.
    """

    def __init__(self, pool: Pool, paths: Sequence[Path], read: Callable[[], _T]) -> None:
        self._pool = pool
        self._paths = paths
        self._read = read
        self._seen: _Signature | None = None
        self._value: _T | None = None

    async def current(self) -> _T:
        """Return the value, read again if a file has changed.

        Raises:
            OSError: If it could never be read.
        """
        return await self._pool.blocking(self._refreshed)

    def _refreshed(self) -> _T:
        seen = _signature(self._paths)  # before they are read: what changes meanwhile is read again
        if self._value is not None and seen == self._seen:
            return self._value
        self._seen = seen
        try:
            self._value = self._read()
        except OSError as error:
            if self._value is None:
                raise
            files = ", ".join(map(str, self._paths))
            _LOG.error("changed files cannot be used", files=files, error=str(error))
        return self._value


def _signature(paths: Sequence[Path]) -> _Signature:
    return tuple(_signature_of(path) for path in paths)


def _signature_of(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    # The last is that of a change of mode or owner, too, and cannot be set back.
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
