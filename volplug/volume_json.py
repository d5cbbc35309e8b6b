"""Volumes as JSON text, for records on disk."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from volplug.descriptions import checked
from volplug.errors import UnexpectedState
from volplug.models import Volume


@cache
def _adapter() -> TypeAdapter[Volume]:
    return TypeAdapter(Volume)


def volume_to_json(volume: Volume) -> str:
    """Write a volume as JSON."""
    return _adapter().dump_json(volume).decode()


def volume_from_json(text: str | bytes, source: str = "the volume's record") -> Volume:
    """Read a volume from JSON; one that fails a check is in state ERROR.

    Args:
        text: Written by `volume_to_json` or by another party.
        source: Names where it was read, for the detail of that state.

    Raises:
        UnexpectedState: If the text is not a volume; nothing may be concluded from it then.
    """
    return checked(unchecked_volume(text, source), lambda _: source)


def unchecked_volume(text: str | bytes, source: str) -> Volume:
    """Read a volume from JSON, of which nothing is checked but the types; see `volume_from_json`."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise UnexpectedState(f"{source} cannot be read ({error.error_count()} errors)") from error
