"""Refusals: maps the reason of `decide` to the error that the user reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from volplug.drivers.base import Holder
from volplug.errors import (
    DeviceMismatch,
    FilesystemMismatch,
    MountFailed,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import Contents, MountSource, Volume
from volplug.sizes import format_size
from volplug.volumes.decision import Reason


@dataclass(frozen=True, slots=True)
class Facts:
    """What the text of a refusal can draw on.

    Attributes:
        volume: The volume as last described, if at all.
        source: The device that this host shows for it.
        contents: What reading the device found.
        holders: What uses the device on this host.
        other_node: What is known of the node that has the volume.
        error: What the backend or the driver raised while it was observed.
    """

    volume: Volume | None = None
    source: MountSource | None = None
    contents: Contents | None = None
    holders: str = ""
    other_node: Holder | None = None
    error: VolplugError | None = None


def refusal_error(reason: Reason, facts: Facts) -> VolplugError:
    """Return the error that states why a goal was refused, and what to do."""
    if facts.error is not None and reason in {Reason.UNREACHABLE, Reason.DUPLICATE, Reason.WRONG_DEVICE}:
        return facts.error
    return _TEXTS[reason](facts)


def _found(facts: Facts) -> str:
    return facts.contents.description if facts.contents else "unknown data"


def _expected(facts: Facts) -> str:
    tag = facts.volume.filesystem if facts.volume else None
    return f"its {tag.fs_type} filesystem {tag.uuid}" if tag else "its filesystem"


def _not_found(_: Facts) -> VolplugError:
    return VolumeNotFound("no such volume", "Create it with docker volume create -d volplug")


def _unexpected(facts: Facts) -> VolplugError:
    state = facts.volume.state if facts.volume else "unknown"
    detail = f": {facts.volume.detail}" if facts.volume and facts.volume.detail else ""
    return UnexpectedState(f"the backend says {state}{detail}", "Look at the volume at its backend")


def _being_deleted(_: Facts) -> VolplugError:
    return UnexpectedState("the volume is being deleted", "Create it anew once it has gone")


def _in_error(facts: Facts) -> VolplugError:
    detail = facts.volume.detail if facts.volume and facts.volume.detail else "the backend says error"
    return UnexpectedState(detail, "Repair it at the backend, or remove the volume")


def _held_elsewhere(facts: Facts) -> VolplugError:
    node = facts.volume.holder if facts.volume and facts.volume.holder else ""
    holder = f"node {node}" if node else "another host"
    answer = facts.other_node
    evidence = f" ({answer.evidence})" if answer and answer.evidence else ""
    last_resort = f"; if it is dead, {answer.remedy}" if answer and answer.remedy else ""
    return VolumeInUse(
        f"{holder} holds it{evidence}",
        f"Stop its containers there (Swarm services: update order stop-first){last_resort}",
        holder=node,
    )


def _held_here(facts: Facts) -> VolplugError:
    return VolumeInUse(
        f"still in use by {facts.holders}",
        "Stop what uses it; volplug goes on by itself once it is free",
        holder=facts.holders,
    )


def _wrong_device(facts: Facts) -> VolplugError:
    if facts.source and facts.source.outdated:
        return DeviceMismatch(facts.source.outdated, "Stop what uses it; the next mount takes what is there")
    return DeviceMismatch("another device is where its own should be", "Nothing was changed; look at both")


def _wrong_size(facts: Facts) -> VolplugError:
    seen = format_size(facts.source.size_bytes) if facts.source else "?"
    wanted = format_size(facts.volume.size_bytes) if facts.volume else "?"
    device = facts.source.device if facts.source else "its device"
    return DeviceMismatch(
        f"{device} has {seen}, its record says {wanted}", "Nothing was changed; look at both"
    )


def _contradiction(facts: Facts) -> VolplugError:
    device = facts.source.device if facts.source else "no device"
    state = facts.volume.state if facts.volume else "absent"
    return DeviceMismatch(
        f"this host shows {device} for it, but the backend says {state}", "Nothing was changed; look at both"
    )


def _mounted_unformatted(_: Facts) -> VolplugError:
    return FilesystemMismatch(
        "it is mounted on this host, but its record says that it was never formatted",
        "Nothing was changed; look at both",
    )


def _not_blank(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"a new volume should be blank, but holds {_found(facts)}; it is not formatted",
        "Remove the volume if its content is not needed",
    )


def _foreign_during_format(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"its format was interrupted and it now holds {_found(facts)}; it is not formatted",
        "Remove the volume and create it again if its content is not needed",
    )


def _filesystem_gone(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"holds {_found(facts)} instead of {_expected(facts)}; it is not formatted",
        "Restore it from a backup, or remove the volume",
    )


def _read_only(_: Facts) -> VolplugError:
    return MountFailed(
        "its filesystem went read-only after an error and others still use it",
        "Stop the containers that use it; the next mount checks it",
    )


_TEXTS: Final[dict[Reason, Callable[[Facts], VolplugError]]] = {
    Reason.NOT_FOUND: _not_found,
    Reason.UNREACHABLE: _unexpected,
    Reason.DUPLICATE: _unexpected,
    Reason.BEING_DELETED: _being_deleted,
    Reason.IN_ERROR: _in_error,
    Reason.HELD_ELSEWHERE: _held_elsewhere,
    Reason.HELD_HERE: _held_here,
    Reason.WRONG_DEVICE: _wrong_device,
    Reason.WRONG_SIZE: _wrong_size,
    Reason.CONTRADICTION: _contradiction,
    Reason.MOUNTED_UNFORMATTED: _mounted_unformatted,
    Reason.NOT_BLANK: _not_blank,
    Reason.FOREIGN_DURING_FORMAT: _foreign_during_format,
    Reason.FILESYSTEM_GONE: _filesystem_gone,
    Reason.READ_ONLY: _read_only,
}
