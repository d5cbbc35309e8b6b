"""Pages of long lists, and where the next one begins. Pure."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

from volplug.api.schemas import OperationQuery, VolumeQuery
from volplug.errors import InvalidRequest
from volplug.volumes.operations import Operation
from volplug.volumes.views import VolumeView

_T = TypeVar("_T")
_BY_NAME: Final[Callable[[VolumeView], str]] = attrgetter("name")


def volume_page(views: Sequence[VolumeView], query: VolumeQuery) -> tuple[list[VolumeView], str | None]:
    """Return one page of volumes, which are sorted by name, and the cursor of the next."""
    begin = bisect_right(views, _decoded(query.cursor), key=_BY_NAME) if query.cursor else 0
    matching = (view for view in islice(views, begin, None) if _is_wanted(view, query))
    return _page(matching, query.limit, _BY_NAME)


def operation_page(
    operations: Sequence[Operation], query: OperationQuery
) -> tuple[list[Operation], str | None]:
    """Return one page of operations, the newest first, and the cursor of the next."""
    begin = 0
    if query.cursor:
        ids = [operation.operation_id for operation in operations]
        last = _decoded(query.cursor)
        if last not in ids:
            raise InvalidRequest("the cursor is no longer known", "Begin with the first page")
        begin = ids.index(last) + 1
    matching = (each for each in islice(operations, begin, None) if _is_asked_for(each, query))
    return _page(matching, query.limit, attrgetter("operation_id"))


def _page(matching: Iterable[_T], limit: int, key: Callable[[_T], str]) -> tuple[list[_T], str | None]:
    found = list(islice(matching, limit + 1))
    if len(found) <= limit:
        return found, None
    page = found[:limit]
    return page, base64.urlsafe_b64encode(key(page[-1]).encode()).decode().rstrip("=")


def _is_wanted(view: VolumeView, query: VolumeQuery) -> bool:
    return (
        query.backend in (None, view.backend)
        and query.state in (None, view.state)
        and (query.name is None or query.name in view.name)
    )


def _is_asked_for(operation: Operation, query: OperationQuery) -> bool:
    return query.volume in (None, operation.volume) and query.state in (None, operation.state)


def _decoded(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("the cursor is not one of this list") from error
