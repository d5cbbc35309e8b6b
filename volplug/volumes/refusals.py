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
    middle_out,
)
from volplug.host.filesystems import FILESYSTEMS
from volplug.models import BlockDevice, ContentKind, Contents, MountSource, NamedFilesystem, Volume
from volplug.sizes import format_size
from volplug.volumes.decision import Reason


@dataclass(frozen=True, slots=True)
class Facts:
    """What the text of a refusal can draw on.

    Attributes:
        volume: The volume as last described, if at all.
        source: The device, or the filesystem by name, that this host shows for it.
        contents: What reading the device found.
        holders: What uses the device on this host.
        other_node: What is known of the node that has the volume.
        error: What the backend or the driver raised while it was observed, or how it explains an absence.
    """

    volume: Volume | None = None
    source: MountSource | None = None
    contents: Contents | None = None
    holders: str = ""
    other_node: Holder | None = None
    error: VolplugError | None = None


def refusal_error(reason: Reason, facts: Facts) -> VolplugError:
    """Return the error that states why a goal was refused, and what to do."""
    if facts.error is not None and reason in _TOLD_BY_DRIVER:
        return facts.error
    return _TEXTS[reason](facts)


def _found(facts: Facts) -> str:
    return facts.contents.description if facts.contents else "unknown data"


def _expected(facts: Facts) -> str:
    tag = facts.volume.filesystem if facts.volume else None
    return f"its {tag.fs_type} filesystem {tag.uuid}" if tag else "its filesystem"


def _not_found(_: Facts) -> VolplugError:
    return VolumeNotFound("no such volume", "Create it: docker volume create -d volplug NAME")


def _unexpected(facts: Facts) -> VolplugError:
    state = facts.volume.state if facts.volume else "unknown"
    detail = f": {facts.volume.detail}" if facts.volume and facts.volume.detail else ""
    return UnexpectedState(f"the backend reports state {state}{detail}", "Check the volume at its backend")


def _being_deleted(_: Facts) -> VolplugError:
    return UnexpectedState("the volume is being deleted", "Create it anew once it has gone")


def _in_error(facts: Facts) -> VolplugError:
    detail = facts.volume.detail if facts.volume and facts.volume.detail else "the backend reports an error"
    return UnexpectedState(detail, "Nothing was changed; try again once that is repaired")


def _held_elsewhere(facts: Facts) -> VolplugError:
    node = facts.volume.holder if facts.volume and facts.volume.holder else ""
    answer = facts.other_node
    evidence = f" ({answer.evidence})" if answer and answer.evidence else ""
    last_resort = f"; if it is dead, {answer.remedy}" if answer and answer.remedy else ""
    return VolumeInUse(
        f"{_name_of(node, answer)} holds the volume{evidence}",
        f"Stop its containers (Swarm: order stop-first){last_resort}",
        holder=node,
    )


def _name_of(node: str, answer: Holder | None) -> str:
    """Return what a node is called: by its name alone where the command to stop it has the id, a long one."""
    if not node:
        return "another host"
    if answer is None or not answer.host_name:
        return f"node {node}"
    host_name = middle_out(answer.host_name)
    return f"node {host_name}" if node in answer.remedy else f"node {node} ({host_name})"


def _held_here(facts: Facts) -> VolplugError:
    return VolumeInUse(
        f"the volume is still in use by {facts.holders}",
        "Stop what uses it; volplug retries until it is free",
        holder=facts.holders,
    )


def _wrong_device(facts: Facts) -> VolplugError:
    if facts.source and facts.source.outdated:
        return DeviceMismatch(
            facts.source.outdated, "Stop the containers that use it; the next mount uses the present image"
        )
    return DeviceMismatch(
        "another device is where the volume's own should be", "Nothing was changed; compare volume and device"
    )


def _device_size(facts: Facts) -> str:
    return format_size(facts.source.size_bytes) if isinstance(facts.source, BlockDevice) else "?"


def _wrong_size(facts: Facts) -> VolplugError:
    seen = _device_size(facts)
    wanted = format_size(facts.volume.size_bytes) if facts.volume else "?"
    device = facts.source.name if facts.source else "its device"
    return DeviceMismatch(
        f"{device} has {seen}, the volume's record says {wanted}",
        "Nothing was changed; compare volume and device",
    )


def _cut_off(facts: Facts) -> VolplugError:
    wanted = facts.contents.filesystem_bytes if facts.contents else None
    needed = format_size(wanted) if wanted else "?"
    seen = _device_size(facts)
    device = facts.source.name if facts.source else "its device"
    return DeviceMismatch(
        f"the volume's end is cut off: {device} has {seen}, the filesystem on it {needed}",
        "Nothing was changed; restore the volume's size at its backend, or a backup",
    )


def _contradiction(facts: Facts) -> VolplugError:
    device = facts.source.name if facts.source else "no device"
    state = facts.volume.state if facts.volume else "absent"
    return DeviceMismatch(
        f"this host has {device} of the volume, but the backend reports state {state}",
        "Nothing was changed; compare volume and device",
    )


def _mounted_unformatted(_: Facts) -> VolplugError:
    return FilesystemMismatch(
        "the volume is mounted on this host, but its record says that it was never formatted",
        "Nothing was changed; compare volume and device",
    )


def _not_blank(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"a new volume should be blank, but holds {_found(facts)}; it is not formatted",
        "Nothing was changed; see what is on it. If that is not needed, remove the volume",
    )


def _foreign_during_format(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"the volume's format was interrupted and it now holds {_found(facts)}; it is not formatted",
        "Nothing was changed; see what is on it. If that is not needed, remove the volume",
    )


def _filesystem_gone(facts: Facts) -> VolplugError:
    return FilesystemMismatch(
        f"the volume holds {_found(facts)}, not {_expected(facts)}; it is not formatted",
        _how_to_repair(facts),
    )


def _read_only(facts: Facts) -> VolplugError:
    if isinstance(facts.source, NamedFilesystem):
        return MountFailed(
            f"the filesystem {facts.source.name} is read-only",
            "See its property readonly, and whether its pool was imported read-only",
        )
    return MountFailed(
        "the filesystem went read-only after an error and is still in use",
        "Stop the containers that use it; the next mount checks it",
    )


def _how_to_repair(facts: Facts) -> str:
    filesystem = FILESYSTEMS.get(facts.volume.filesystem.fs_type) if facts.volume else None
    if filesystem is not None and facts.contents is not None and facts.contents.kind is ContentKind.UNCLAIMED:
        return filesystem.how_to_repair_superblock
    return "Nothing was changed; restore it from a backup"


_TOLD_BY_DRIVER: Final = frozenset(
    {Reason.NOT_FOUND, Reason.UNREACHABLE, Reason.DUPLICATE, Reason.WRONG_DEVICE}
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
    Reason.CUT_OFF: _cut_off,
    Reason.CONTRADICTION: _contradiction,
    Reason.MOUNTED_UNFORMATTED: _mounted_unformatted,
    Reason.NOT_BLANK: _not_blank,
    Reason.FOREIGN_DURING_FORMAT: _foreign_during_format,
    Reason.FILESYSTEM_GONE: _filesystem_gone,
    Reason.READ_ONLY: _read_only,
}
