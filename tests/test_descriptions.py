"""What is read from outside either passes the checks of users' options or permits nothing."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sound_volumes import volumes
from volplug.descriptions import checked
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.options import check_mkfs_options, check_mount_options
from volplug.models import (
    ContentKind,
    FilesystemPhase,
    FilesystemTag,
    Volume,
    VolumeSpec,
    VolumeState,
)
from volplug.names import is_name
from volplug.sizes import GIB
from volplug.volumes.decision import Goal, Refusal, decide
from volplug.volumes.observed import BackendState, DeviceMatch, Observed

UUID = "6f1c2b1e-0d6c-4a52-8f0a-0c3f4c1d9b77"
SPEC = VolumeSpec("db", GIB, mount_options=("noatime",))
SOUND = Volume("db", "vol-1", "cloud", GIB, VolumeState.AVAILABLE, SPEC)
FORMATTED = FilesystemTag(FilesystemPhase.FORMATTED, "ext4", UUID)


def read(volume: Volume) -> Volume:
    return checked(volume, lambda what: f"its {what}")


def with_spec(**changes: object) -> Volume:
    return replace(SOUND, spec=replace(SPEC, **changes))  # type: ignore[arg-type]  # of any kind


@given(volumes())
def test_what_volplug_accepts_from_users_is_left_as_it_is(volume: Volume) -> None:
    assert read(volume) == volume


@pytest.mark.parametrize(
    ("volume", "detail"),
    [
        (replace(SOUND, subpath=".."), "its subpath cannot be used: '..' is not the name of one directory"),
        *(
            (replace(SOUND, subpath=path), "its subpath cannot be used")
            for path in ("../../..", ".", "/", "/etc", "data/..", "a/b", "a\0b", "-x", " ", "a\n")
        ),
        (replace(SOUND, volume_id="../x"), "its volume_id cannot be used: '../x' is no id of a volume"),
        (with_spec(name="other"), "its name cannot be used: 'other' is the name of another volume"),
        (with_spec(fs_type="vfat"), "its spec cannot be used: unknown filesystem 'vfat'"),
        (with_spec(mkfs_options=("-d", "/etc")), "its spec cannot be used: option 'mkfs-opts' has '-d'"),
        (with_spec(mkfs_options=("-z", "/undo")), "its spec cannot be used: option 'mkfs-opts' has '-z'"),
        (with_spec(mkfs_options=("-L", "x" * 100)), "its spec cannot be used: the label 'xxxxx"),
        (
            replace(SOUND, created_at=datetime(2026, 1, 2)),
            "its created_at cannot be used: the time 2026-01-02 00:00:00 has no time zone",
        ),
        (with_spec(mount_options=("ro",)), "its spec cannot be used: option 'mount-opts' has 'ro'"),
        (with_spec(mount_options=("a,loop",)), "its spec cannot be used: option 'mount-opts' has 'loop'"),
        (
            with_spec(mount_options=("a,b",)),
            "its spec cannot be used: the mount options are not a list of options",
        ),
        (with_spec(uid=2**40), "its spec cannot be used: uid 1099511627776 is not within 0 and 4294967294"),
        (with_spec(gid=-1), "its spec cannot be used: gid -1 is not within"),
        (with_spec(mode=0o20777), "its spec cannot be used: mode 8703 is not within 0 and 4095"),
        (with_spec(size_bytes=-1), "its spec cannot be used: size -1 is not within"),
        (replace(SOUND, size_bytes=2**64), "its spec cannot be used: size 18446744073709551616 is not"),
        (
            replace(SOUND, filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "vfat", UUID)),
            "its filesystem cannot be used: unknown filesystem 'vfat'",
        ),
        (
            replace(SOUND, filesystem=FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "--force")),
            "its filesystem cannot be used: '--force' is no UUID of a filesystem",
        ),
        (
            replace(SOUND, filesystem=FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "")),
            "its filesystem cannot be used: '' is no UUID of a filesystem",
        ),
        (
            replace(SOUND, filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "zfs", UUID)),
            "its filesystem cannot be used: 'zfs' is no tag of a volume that is to be ext4",
        ),
        (
            replace(with_spec(fs_type="zfs"), filesystem=FORMATTED),
            "its filesystem cannot be used: 'ext4' is no tag of a volume that is to be zfs",
        ),
        (with_spec(fs_type="zfs"), "its filesystem cannot be used: 'pending' is no tag"),
        (
            with_spec(fs_type="zfs", mount_options=("zfsutil",)),
            "its spec cannot be used: option 'mount-opts' has 'zfsutil'",
        ),
    ],
)
def test_what_is_refused_from_users_is_an_error_that_names_the_field(volume: Volume, detail: str) -> None:
    found = read(volume)
    assert found.detail.startswith(detail)
    assert (found.name, found.volume_id, found.state) == ("db", volume.volume_id, VolumeState.ERROR)
    assert (found.spec, found.subpath) == (VolumeSpec("db", found.size_bytes), "data")
    assert found.created_at is None


@pytest.mark.parametrize("name", ["../../victim", "", ".", "a/b", "a" * 129, ".hidden", "ü", "a\n"])
def test_a_volume_with_an_invalid_name_is_named_by_its_id(name: str) -> None:
    found = read(replace(SOUND, name=name, spec=replace(SPEC, name=name)))
    assert (found.name, found.spec.name, found.state) == ("vol-1", "vol-1", VolumeState.ERROR)
    assert found.detail.startswith("its name cannot be used: ")


def test_mkfs_options_count_only_while_the_volume_is_unformatted() -> None:
    """There is no further mkfs, so options that a later version refuses do not make data inaccessible."""
    volume = replace(with_spec(mkfs_options=("-d", "/etc")), filesystem=FORMATTED)
    assert read(volume) == volume


def test_a_filesystem_without_a_device_is_accepted_as_it_is() -> None:
    for phase in (FilesystemPhase.FORMATTING, FilesystemPhase.FORMATTED):
        volume = replace(with_spec(fs_type="zfs"), filesystem=FilesystemTag(phase, "zfs", UUID))
        assert read(volume) == volume


def test_an_unusable_volume_stays_as_it_is_when_it_is_read_again() -> None:
    unusable = read(replace(SOUND, subpath=".."))
    assert read(unusable) == unusable


_ANY = st.text(max_size=8) | st.sampled_from(["..", "/", "/etc", "-d", "ro", "ext4", "data", "formatting"])
_ANYTHING = st.builds(
    Volume,
    _ANY,
    _ANY,
    st.just("cloud"),
    st.integers(),
    st.sampled_from(VolumeState),
    st.builds(
        VolumeSpec,
        _ANY,
        st.integers(),
        fs_type=_ANY,
        mkfs_options=st.lists(_ANY, max_size=3).map(tuple),
        mount_options=st.lists(_ANY, max_size=3).map(tuple),
        uid=st.integers(),
        gid=st.integers(),
        mode=st.integers(),
    ),
    filesystem=st.builds(FilesystemTag, st.sampled_from(FilesystemPhase), _ANY, _ANY),
    subpath=_ANY,
)


@given(_ANYTHING)
def test_nothing_that_is_read_leads_out_of_its_own_directory(described: Volume) -> None:
    volume = read(described)
    assert is_name(volume.name) or volume.name == volume.volume_id
    assert volume.subpath == "" or is_name(volume.subpath)
    assert volume.spec.name == volume.name
    if volume.state is VolumeState.ERROR:
        return
    assert volume.spec.fs_type in FILESYSTEMS
    if volume.filesystem.phase is not FilesystemPhase.FORMATTED:
        check_mkfs_options(volume.spec.fs_type, volume.spec.mkfs_options)
    check_mount_options(",".join(volume.spec.mount_options))


@pytest.mark.parametrize("device", DeviceMatch)
@pytest.mark.parametrize("contents", [None, *ContentKind])
def test_a_volume_in_error_is_never_mounted_and_can_be_unmounted(
    device: DeviceMatch, contents: ContentKind | None
) -> None:
    seen = Observed(BackendState.ERROR, device, contents, FilesystemPhase.FORMATTED)
    assert isinstance(decide(seen, Goal.MOUNTED), Refusal)
    if device is not DeviceMatch.WRONG:
        assert not isinstance(decide(seen, Goal.RELEASED), Refusal)
        assert not isinstance(decide(seen, Goal.DETACHED), Refusal)
