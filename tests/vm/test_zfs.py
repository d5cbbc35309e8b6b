"""What the ZFS driver relies on, shown on OpenZFS itself: which mounts and which destroys it refuses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.programs import CommandError
from tests.lab.requirements import VM
from tests.lab.waiting import wait_until
from tests.vm.guest import Guest
from tests.vm.guest_volplug import run_python
from tests.vm.image import openzfs_image

pytestmark = [
    *VM,
    pytest.mark.slow,  # to make the image takes minutes, since it has a compiler compile the module
    pytest.mark.prepare(by=openzfs_image),
]

_TIMEOUT_S = 60.0
_DATASET = "tank/db"
_PLACE = "/mnt"
_SUBDIRECTORY_PLACE = "/srv"
_LOG = "/run/holder"
_TRY_MOUNT = Path(__file__).with_name("try_mount.py")
_IS_HELD = Path(__file__).with_name("is_held.py")
_DESTROY = Path(__file__).with_name("destroy.py")
# A namespace in which what is mounted there stays mounted, as in a container.
_IN_NAMESPACE = ["unshare", "--mount", "--propagation=private"]
_HOLD = "echo holding; exec sleep infinity"
_BIND_AND_HOLD = f"mount --bind {_PLACE}/sub {_SUBDIRECTORY_PLACE} && umount {_PLACE} && {_HOLD}"
_HOLDERS = {
    "another namespace": [*_IN_NAMESPACE, "sh", "-c", _HOLD],
    "a subdirectory in another namespace": [*_IN_NAMESPACE, "sh", "-c", _BIND_AND_HOLD],
    "an open file": ["sh", "-c", f"exec 9>{_PLACE}/sub/file; {_HOLD}"],
}


@pytest.fixture
def guest(zfs_guest: Guest) -> Iterator[Guest]:
    """A guest with the dataset, which no test leaves mounted."""
    zfs_guest.run(["zfs", "create", "-o", "mountpoint=legacy", _DATASET])
    yield zfs_guest
    assert "zfs" not in zfs_guest.read("/proc/1/mountinfo").split(), "left mounted"
    if _exists(zfs_guest):
        zfs_guest.run(["zfs", "destroy", "-R", _DATASET])


def _exists(guest: Guest) -> bool:
    return _DATASET in guest.run(["zfs", "list", "-H", "-o", "name", "-r", "tank"]).split()


def _mount(guest: Guest, access: str = "rw") -> None:
    guest.run(["mount", "-t", "zfs", "-o", access, _DATASET, _PLACE])


def _tried(guest: Guest) -> dict[str, str]:
    """What a read-only and a read-write mount(2) at a private path answer; the release test says the same."""
    tried = {access: run_python(guest, _TRY_MOUNT, _DATASET, access).strip() for access in ("ro", "rw")}
    assert run_python(guest, _IS_HELD, _DATASET).strip() == str("EBUSY" in tried.values())
    return tried


@contextmanager
def _held(guest: Guest, holder: str) -> Iterator[None]:
    """Let another process use the mounted dataset, after our own mount has been detached."""
    guest.run(["rm", "-f", _LOG])
    pid = guest.spawn(_HOLDERS[holder], log=_LOG)
    wait_until(lambda: "holding" in guest.read(_LOG), _TIMEOUT_S, f"{holder} holds the dataset")
    guest.run(["umount", "--lazy", _PLACE])
    try:
        yield
    finally:
        guest.run(["sh", "-c", f"kill {pid}"])
        wait_until(lambda: not guest.is_running(pid), _TIMEOUT_S, "the holder has ended")


@pytest.mark.parametrize("holder", _HOLDERS)
def test_a_read_only_mount_is_refused_while_the_dataset_can_be_written(guest: Guest, holder: str) -> None:
    _mount(guest)
    guest.run(["mkdir", f"{_PLACE}/sub"])
    with _held(guest, holder):
        assert _tried(guest) == {"ro": "EBUSY", "rw": "mounted"}
        with pytest.raises(CommandError, match="dataset is busy"):
            guest.run(["zfs", "destroy", _DATASET])
    assert _tried(guest) == {"ro": "mounted", "rw": "mounted"}
    guest.run(["zfs", "destroy", _DATASET])
    assert not _exists(guest)


def test_a_read_only_holder_is_noticed_by_a_read_write_mount_alone(guest: Guest) -> None:
    _mount(guest, "ro")
    with _held(guest, "another namespace"):
        assert _tried(guest) == {"ro": "mounted", "rw": "EBUSY"}
        with pytest.raises(CommandError, match="dataset is busy"):
            guest.run(["zfs", "destroy", _DATASET])
    assert _tried(guest) == {"ro": "mounted", "rw": "mounted"}


def test_a_holder_becomes_read_only_with_the_property(guest: Guest) -> None:
    _mount(guest)
    with _held(guest, "another namespace"):
        guest.run(["zfs", "set", "readonly=on", _DATASET])
        assert _tried(guest) == {"ro": "mounted", "rw": "EBUSY"}
        guest.run(["zfs", "inherit", "readonly", _DATASET])
        assert _tried(guest) == {"ro": "EBUSY", "rw": "mounted"}


def test_a_trial_mount_changes_nothing_that_a_later_receive_would_refuse(guest: Guest) -> None:
    guest.run(["zfs", "snapshot", f"{_DATASET}@first"])
    guest.run(["sh", "-c", f"zfs send {_DATASET}@first | zfs receive -u tank/copy"])
    guest.run(["zfs", "snapshot", f"{_DATASET}@second"])
    run_python(guest, _TRY_MOUNT, "tank/copy", "ro")
    guest.run(["sh", "-c", f"zfs send -i @first {_DATASET}@second | zfs receive -u tank/copy"])
    guest.run(["zfs", "destroy", "-r", "tank/copy"])


def test_destroy_unmounts_what_is_idle_in_its_own_namespace(guest: Guest) -> None:
    """So it protects only against other namespaces, and has to run in one of its own."""
    _mount(guest)
    with pytest.raises(CommandError, match="dataset is busy"):
        guest.run([*_IN_NAMESPACE, "zfs", "destroy", _DATASET])
    assert _DATASET in guest.read("/proc/1/mountinfo")
    guest.run(["zfs", "destroy", _DATASET])
    assert not _exists(guest)


_DEPENDENTS = {
    "a child": [["create", "-o", "mountpoint=none", f"{_DATASET}/child"]],
    "a snapshot": [["snapshot", f"{_DATASET}@a"]],
    "a clone": [["snapshot", f"{_DATASET}@a"], ["clone", f"{_DATASET}@a", "tank/clone"]],
}


@pytest.mark.parametrize("dependent", _DEPENDENTS)
def test_destroy_without_r_refuses_what_has_dependents(guest: Guest, dependent: str) -> None:
    for arguments in _DEPENDENTS[dependent]:
        guest.run(["zfs", *arguments])
    with pytest.raises(CommandError, match=f"cannot destroy '{_DATASET}': filesystem has children"):
        guest.run(["zfs", "destroy", _DATASET])
    assert _exists(guest)


@pytest.mark.parametrize(
    ("meanwhile", "answer"),
    [
        ([], "destroyed"),
        (["zfs destroy {}"], "VolumeNotFound: "),
        (["zfs destroy {}", "zfs create -o mountpoint=legacy {}"], "VolumeNotFound: "),
        (["zfs snapshot {}@a"], f"VolumeInUse: .*{_DATASET}@a"),
        (["zfs create -o mountpoint=none {}/child"], f"VolumeInUse: .*{_DATASET}/child"),
    ],
)
def test_the_driver_destroys_what_it_has_read_or_nothing(
    guest: Guest, meanwhile: list[str], answer: str
) -> None:
    commands = [each.format(_DATASET) for each in meanwhile]
    assert re.match(answer, run_python(guest, _DESTROY, _DATASET, *commands))
    assert _exists(guest) is (meanwhile not in ([], ["zfs destroy {}"]))


def test_the_driver_neither_destroys_nor_unmounts_what_is_idle_in_its_own_namespace(guest: Guest) -> None:
    answer = run_python(guest, _DESTROY, _DATASET, f"mount -t zfs {_DATASET} {_PLACE}")
    assert answer == f"VolumeInUse: cannot destroy '{_DATASET}': dataset is busy\n"
    assert _DATASET in guest.read("/proc/1/mountinfo")
    guest.run(["umount", _PLACE])
