"""Volumes as JSON text, for records that lie on disk."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from volplug.errors import UnexpectedState
from volplug.models import Volume


@cache
def _adapter() -> TypeAdapter[Volume]:
    return TypeAdapter(Volume)


def volume_to_json(volume: Volume) -> str:
    """Write a volume as JSON."""
    return _adapter().dump_json(volume).decode()


def volume_from_json(text: str | bytes) -> Volume:
    """Read a volume from JSON.

    Raises:
        UnexpectedState: If the text is not a volume's; nothing may be concluded from it then.
    """
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise UnexpectedState(f"its record cannot be read ({error.error_count()} errors)") from error
