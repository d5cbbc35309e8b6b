"""Datasets as `zfs get` prints them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from volplug.errors import UnexpectedState

PREFIX: Final = "org.volplug:"
GUID: Final = f"{PREFIX}guid"
# Asked for in this order, in which they are printed; users' properties come last.
_NATIVE: Final = (
    "type",
    "guid",
    "creation",
    "used",
    "referenced",
    "available",
    "refquota",
    "refreservation",
    "mountpoint",
    "mounted",
    "origin",
)
_OWN_SOURCES: Final = ("local", "received")
_UNSET: Final = "-"


@dataclass(frozen=True, slots=True)
class Property:
    """A value with its source: `local`, `received`, `default`, `-` or `inherited from NAME`."""

    value: str
    source: str

    @property
    def is_own(self) -> bool:
        """Tell whether it was set on the dataset itself: children and snapshots inherit users' properties."""
        return self.source in _OWN_SOURCES


@dataclass(frozen=True, slots=True)
class Dataset:
    """One filesystem of a pool.

    Attributes:
        name: With its pool and parents.
        guid: Given by ZFS; no copy has the same.
        used: With snapshots, children and reservation.
        referenced: Without them.
        available: To it; within its quotas.
        refquota: 0 for none.
        refreservation: 0 for none.
        mountpoint: A path, `legacy` or `none`.
        is_mounted: In the mount namespace of the command.
        origin: The snapshot that it is a clone of; empty for none.
        created_at: With time zone.
        properties: Of volplug, with any source.
    """

    name: str
    guid: str
    used: int
    referenced: int
    available: int
    refquota: int
    refreservation: int
    mountpoint: str
    is_mounted: bool
    origin: str
    created_at: datetime
    properties: Mapping[str, Property] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def own(self) -> Mapping[str, str]:
        """Return volplug's properties that count: those of the dataset itself."""
        return {name: each.value for name, each in self.properties.items() if each.is_own}

    @property
    def is_volume(self) -> bool:
        """Tell whether volplug made it: `zfs send -p` copies the properties, but not the guid."""
        return self.own.get(GUID) == self.guid


def wanted(user_properties: Sequence[str]) -> tuple[str, ...]:
    """Return what to ask `zfs get` for."""
    return (*_NATIVE, *user_properties)


def read_datasets(output: str, user_properties: Sequence[str], repeated: str = "") -> tuple[Dataset, ...]:
    """Return the filesystems in what `zfs get -H -p -o name,property,value,source` printed.

    Snapshots and volumes of blocks are left out. A value may have tabs and line breaks, so a line begins a
    property only where that property is due.

    Args:
        output: What was printed.
        user_properties: Those that were asked for.
        repeated: A dataset that was asked for twice, which zfs-fuse prints twice.

    Raises:
        UnexpectedState: If the output is not complete, or a dataset is in it twice, as a value could feign.
    """
    expected = wanted(user_properties)
    found: dict[str, dict[str, Property]] = {}
    name, due = "", 0
    raw: list[str] = []

    def end_property() -> None:
        value, tab, source = "\n".join(raw).rpartition("\t")
        if not tab:
            raise _unreadable(name or "its beginning")
        found[name][expected[due - 1]] = Property(value, source)

    for line in output.split("\n")[:-1]:
        place, _, rest = line.partition("\t")
        what, tab, value = rest.partition("\t")
        begins = tab and what == expected[due % len(expected)] and (due == len(expected) or place == name)
        if not (begins or (due == 0 and what == expected[0])):
            raw.append(line)
            continue
        if due:
            end_property()
        if due in (0, len(expected)):
            if place in found and place != repeated:
                raise UnexpectedState(
                    f"zfs lists {place} twice", "A property of a dataset beside it feigns it"
                )
            name, due = place, 0
            found[name] = {}
        due, raw = due + 1, [value]
    if due not in (0, len(expected)) or (due == 0 and raw):
        raise _unreadable(name or "its beginning")
    if due:
        end_property()
    return tuple(
        _dataset(name, of, user_properties) for name, of in found.items() if of["type"].value == "filesystem"
    )


def _unreadable(where: str) -> UnexpectedState:
    return UnexpectedState(f"what zfs prints cannot be read, at {where}")


def _dataset(name: str, found: Mapping[str, Property], user_properties: Sequence[str]) -> Dataset:
    def number(what: str) -> int:
        text = found[what].value
        if text in ("none", _UNSET):
            return 0
        if not text.isascii() or not text.isdecimal():
            raise UnexpectedState(f"{what} of {name} is {text[:40]!r}, which is no number")
        return int(text)

    origin = found["origin"].value
    return Dataset(
        name=name,
        guid=found["guid"].value,
        used=number("used"),
        referenced=number("referenced"),
        available=number("available"),
        refquota=number("refquota"),
        refreservation=number("refreservation"),
        mountpoint=found["mountpoint"].value,
        is_mounted=found["mounted"].value == "yes",
        origin="" if origin == _UNSET else origin,
        created_at=datetime.fromtimestamp(number("creation"), UTC),
        properties=MappingProxyType(
            {each: found[each] for each in user_properties if found[each].source != _UNSET}
        ),
    )
