"""The error text of every refusal, exactly as a user reads it."""

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
    ContentKind,
    Contents,
    FilesystemPhase,
    FilesystemTag,
    HolderState,
    MountSource,
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
    source=MountSource("/dev/loop3", "loop-1a2b3c4d5e6f", GIB // 2),
    contents=Contents(ContentKind.FOREIGN, "an LVM2_member signature", GIB),
    holders="container web-1",
    other_node=Holder(HolderState.ALIVE, "EC2 says running", "stop host2"),
)
CONTEXT = ErrorContext("mount", "todolist", "loop", VOLUME.volume_id, "host1")
HEAD = 'mount "todolist" (loop loop-1a2b3c4d5e6f, node host1): '

TEXTS: dict[Reason, tuple[type[VolplugError], str]] = {
    Reason.NOT_FOUND: (
        VolumeNotFound,
        "no such volume. Create it with docker volume create -d volplug.",
    ),
    Reason.UNREACHABLE: (UnexpectedState, "the backend says in-use. Look at the volume at its backend."),
    Reason.DUPLICATE: (UnexpectedState, "the backend says in-use. Look at the volume at its backend."),
    Reason.BEING_DELETED: (
        UnexpectedState,
        "the volume is being deleted. Create it anew once it has gone.",
    ),
    Reason.IN_ERROR: (
        UnexpectedState,
        "the backend says error. Repair it at the backend, or remove the volume.",
    ),
    Reason.HELD_ELSEWHERE: (
        VolumeInUse,
        "node host2 holds it (EC2 says running). "
        "Stop its containers there (Swarm services: update order stop-first); if it is dead, stop host2.",
    ),
    Reason.HELD_HERE: (
        VolumeInUse,
        "still in use by container web-1. Stop what uses it; volplug goes on by itself once it is free.",
    ),
    Reason.WRONG_DEVICE: (
        DeviceMismatch,
        "another device is where its own should be. Nothing was changed; look at both.",
    ),
    Reason.WRONG_SIZE: (
        DeviceMismatch,
        "/dev/loop3 has 512MiB, its record says 1GiB. Nothing was changed; look at both.",
    ),
    Reason.CUT_OFF: (
        DeviceMismatch,
        "/dev/loop3 has 512MiB, its filesystem 1GiB: its end is cut off. "
        "Nothing was changed; restore the volume's size at its backend, or a backup.",
    ),
    Reason.CONTRADICTION: (
        DeviceMismatch,
        "this host shows /dev/loop3 for it, but the backend says in-use. Nothing was changed; look at both.",
    ),
    Reason.MOUNTED_UNFORMATTED: (
        FilesystemMismatch,
        "it is mounted on this host, but its record says that it was never formatted. "
        "Nothing was changed; look at both.",
    ),
    Reason.NOT_BLANK: (
        FilesystemMismatch,
        "a new volume should be blank, but holds an LVM2_member signature; it is not formatted. "
        "Remove the volume if its content is not needed.",
    ),
    Reason.FOREIGN_DURING_FORMAT: (
        FilesystemMismatch,
        "its format was interrupted and it now holds an LVM2_member signature; it is not formatted. "
        "Remove the volume and create it again if its content is not needed.",
    ),
    Reason.FILESYSTEM_GONE: (
        FilesystemMismatch,
        f"holds an LVM2_member signature instead of its ext4 filesystem {UUID}; it is not formatted. "
        "Restore it from a backup, or remove the volume.",
    ),
    Reason.READ_ONLY: (
        MountFailed,
        "its filesystem went read-only after an error and others still use it. "
        "Stop the containers that use it; the next mount checks it.",
    ),
}


def test_every_reason_has_a_text() -> None:
    assert set(TEXTS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_what_a_user_reads(reason: Reason) -> None:
    kind, text = TEXTS[reason]
    error = refusal_error(reason, FACTS)
    assert type(error) is kind
    assert str(error.in_context(CONTEXT)) == HEAD + text


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


def test_an_old_error_does_not_hide_another_reason() -> None:
    facts = Facts(error=BackendUnavailable("no route to the cloud"), holders="container web-1")
    assert refusal_error(Reason.HELD_HERE, facts).cause == "still in use by container web-1"


def test_the_holder_is_an_attribute_of_the_error() -> None:
    elsewhere = refusal_error(Reason.HELD_ELSEWHERE, FACTS)
    here = refusal_error(Reason.HELD_HERE, FACTS)
    assert isinstance(elsewhere, VolumeInUse)
    assert isinstance(here, VolumeInUse)
    assert (elsewhere.holder, here.holder) == ("host2", "container web-1")
