"""Volumes whose descriptions may be used, for property tests: what volplug itself writes and reads back."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from volplug.host.filesystems import FILESYSTEMS
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState

TEXT = st.text(max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", fullmatch=True)
MKFS_OPTIONS = st.sampled_from([(), ("-L", "label"), ("-m", "0", "-L", "a b")])
MOUNT_OPTIONS = st.lists(st.sampled_from(["noatime", "commit=30", "data=ordered"]), max_size=3).map(tuple)
CONTENTS = st.one_of(
    st.just(FilesystemTag()),
    st.builds(
        FilesystemTag,
        st.sampled_from([FilesystemPhase.FORMATTING, FilesystemPhase.FORMATTED]),
        st.sampled_from(sorted(FILESYSTEMS)),
        st.uuids().map(str),
    ),
)


def specs(
    names: st.SearchStrategy[str] = NAMES,
    sizes_bytes: st.SearchStrategy[int] = st.integers(1, 2**60),  # noqa: B008  # immutable
    driver_options: st.SearchStrategy[tuple[tuple[str, str], ...]] = st.just(()),  # noqa: B008
    profiles: st.SearchStrategy[str] = TEXT,
) -> st.SearchStrategy[VolumeSpec]:
    """Specs as they are accepted from users."""
    return st.builds(
        VolumeSpec,
        names,
        sizes_bytes,
        fs_type=st.sampled_from(sorted(FILESYSTEMS)),
        mkfs_options=MKFS_OPTIONS,
        mount_options=MOUNT_OPTIONS,
        uid=st.integers(0, 2**32 - 2),
        gid=st.integers(0, 2**32 - 2),
        mode=st.integers(0, 0o7777),
        profile=profiles,
        driver_options=driver_options,
    )


def volumes(names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Volume]:
    """Volumes as backends describe them, in any state."""
    times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
    return names.flatmap(
        lambda name: st.builds(
            Volume,
            st.just(name),
            NAMES,
            TEXT,
            st.integers(1, 2**60),
            st.sampled_from(VolumeState),
            specs(st.just(name)),
            filesystem=CONTENTS,
            subpath=st.just("") | NAMES,
            created_at=st.none() | times,
            holder=st.none() | TEXT,
            detail=TEXT,
            details=st.lists(st.tuples(TEXT, TEXT | st.integers(0, 2**40) | st.booleans()), max_size=3).map(
                tuple
            ),
        )
    )
