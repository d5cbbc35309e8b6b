"""The error text of every refusal, exactly as a user reads it."""

from dataclasses import replace

import pytest

from volplug.drivers.base import Holder
from volplug.errors import (
    BackendUnavailable,
    DeviceMismatch,
    DuplicateVolumes,
    ErrorContext,
    FilesystemMismatch,
    MountFailed,
    UnexpectedState,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import (
    BlockDevice,
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    HolderState,
    Volume,
    VolumeSpec,
    VolumeState,
)
from volplug.sizes import GIB
from volplug.volumes.decision import Reason
from volplug.volumes.refusals import Facts, refusal_error

UUID = "0c6f6d3c-9a0b-4f0e-8a4e-111122223333"
VOLUME = Volume(
    name="todolist",
    volume_id="loop-1a2b3c4d5e6f",
    backend="loop",
    size_bytes=GIB,
    state=VolumeState.IN_USE,
    spec=VolumeSpec("todolist", GIB),
    filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID),
    holder="host2",
)
FACTS = Facts(
    volume=VOLUME,
    source=BlockDevice("/dev/loop3", "loop-1a2b3c4d5e6f", GIB // 2),
    contents=Contents(ContentKind.FOREIGN, "an LVM2_member signature", GIB),
    holders="container web-1",
    other_node=Holder(HolderState.ALIVE, "EC2 says running", "stop host2", host_name="db-1"),
)
CONTEXT = ErrorContext("mount", "todolist", "loop", VOLUME.volume_id, "host1")
BRACKET = ' [mount "todolist", loop loop-1a2b3c4d5e6f, node host1]'

TEXTS: dict[Reason, tuple[type[VolplugError], str, str]] = {
    Reason.NOT_FOUND: (VolumeNotFound, "no such volume", "Create it: docker volume create -d volplug NAME."),
    Reason.UNREACHABLE: (
        UnexpectedState,
        "the backend reports state in-use",
        "Check the volume at its backend.",
    ),
    Reason.DUPLICATE: (
        UnexpectedState,
        "the backend reports state in-use",
        "Check the volume at its backend.",
    ),
    Reason.BEING_DELETED: (
        UnexpectedState,
        "the volume is being deleted",
        "Create it anew once it has gone.",
    ),
    Reason.IN_ERROR: (
        UnexpectedState,
        "the backend reports an error",
        "Nothing was changed; try again once that is repaired.",
    ),
    Reason.HELD_ELSEWHERE: (
        VolumeInUse,
        "node db-1 holds the volume (EC2 says running)",
        "Stop its containers (Swarm: order stop-first); if it is dead, stop host2.",
    ),
    Reason.HELD_HERE: (
        VolumeInUse,
        "the volume is still in use by container web-1",
        "Stop what uses it; volplug retries until it is free.",
    ),
    Reason.WRONG_DEVICE: (
        DeviceMismatch,
        "another device is where the volume's own should be",
        "Nothing was changed; compare volume and device.",
    ),
    Reason.WRONG_SIZE: (
        DeviceMismatch,
        "/dev/loop3 has 512MiB, the volume's record says 1GiB",
        "Nothing was changed; compare volume and device.",
    ),
    Reason.CUT_OFF: (
        DeviceMismatch,
        "the volume's end is cut off: /dev/loop3 has 512MiB, the filesystem on it 1GiB",
        "Nothing was changed; restore the volume's size at its backend, or a backup.",
    ),
    Reason.CONTRADICTION: (
        DeviceMismatch,
        "this host has /dev/loop3 of the volume, but the backend reports state in-use",
        "Nothing was changed; compare volume and device.",
    ),
    Reason.MOUNTED_UNFORMATTED: (
        FilesystemMismatch,
        "the volume is mounted on this host, but its record says that it was never formatted",
        "Nothing was changed; compare volume and device.",
    ),
    Reason.NOT_BLANK: (
        FilesystemMismatch,
        "a new volume should be blank, but holds an LVM2_member signature; it is not formatted",
        "Nothing was changed; see what is on it. If that is not needed, remove the volume.",
    ),
    Reason.FOREIGN_DURING_FORMAT: (
        FilesystemMismatch,
        "the volume's format was interrupted and it now holds an LVM2_member signature; it is not formatted",
        "Nothing was changed; see what is on it. If that is not needed, remove the volume.",
    ),
    Reason.FILESYSTEM_GONE: (
        FilesystemMismatch,
        f"the volume holds an LVM2_member signature, not its ext4 filesystem {UUID}; it is not formatted",
        "Nothing was changed; restore it from a backup.",
    ),
    Reason.READ_ONLY: (
        MountFailed,
        "the filesystem went read-only after an error and is still in use",
        "Stop the containers that use it; the next mount checks it.",
    ),
}


def test_every_reason_has_a_text() -> None:
    assert set(TEXTS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_what_a_user_reads(reason: Reason) -> None:
    kind, cause, remedy = TEXTS[reason]
    error = refusal_error(reason, FACTS)
    assert type(error) is kind
    assert str(error.in_context(CONTEXT)) == f"{cause}{BRACKET}. {remedy}"


@pytest.mark.parametrize("reason", Reason)
def test_without_any_facts_there_is_still_a_cause(reason: Reason) -> None:
    error = refusal_error(reason, Facts())
    assert type(error) is TEXTS[reason][0]
    assert error.cause.strip()
    assert "None" not in str(error)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.UNREACHABLE, BackendUnavailable("no route to the cloud", "Try again")),
        (Reason.DUPLICATE, DuplicateVolumes("a and b carry this name", volume_ids=("a", "b"))),
        (Reason.WRONG_DEVICE, DeviceMismatch("/dev/sdx has another serial")),
    ],
)
def test_the_error_of_the_backend_or_driver_is_passed_on(reason: Reason, error: VolplugError) -> None:
    assert refusal_error(reason, Facts(error=error)) is error


@pytest.mark.parametrize(
    ("fs_type", "command"),
    [("ext4", "e2fsck -f"), ("xfs", "xfs_repair"), ("btrfs", "btrfs rescue super-recover")],
)
def test_data_without_a_superblock_is_repaired_before_a_backup_is_restored(
    fs_type: str, command: str
) -> None:
    volume = replace(VOLUME, filesystem=replace(VOLUME.filesystem, fs_type=fs_type))
    contents = Contents(ContentKind.UNCLAIMED, "data that no known filesystem claims")
    error = refusal_error(Reason.FILESYSTEM_GONE, replace(FACTS, volume=volume, contents=contents))
    assert error.remedy == (
        f"Run {command} on its unused device or image if its superblock is damaged, else restore a backup"
    )
    assert f" {error.remedy}." in str(error.in_context(CONTEXT))


def test_an_old_error_does_not_hide_another_reason() -> None:
    facts = Facts(error=BackendUnavailable("no route to the cloud"), holders="container web-1")
    assert refusal_error(Reason.HELD_HERE, facts).cause == "the volume is still in use by container web-1"


def test_the_holder_is_an_attribute_of_the_error() -> None:
    elsewhere = refusal_error(Reason.HELD_ELSEWHERE, FACTS)
    here = refusal_error(Reason.HELD_HERE, FACTS)
    assert isinstance(elsewhere, VolumeInUse)
    assert isinstance(here, VolumeInUse)
    assert (elsewhere.holder, here.holder) == ("host2", "container web-1")
