from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.host.superblocks import PRIMARY, Superblock, parse

UUID = "0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0"


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("ext4-clean", Superblock("ext4", UUID, is_finished=True, is_clean=True)),
        ("ext4-mounted", Superblock("ext4", UUID, True, is_clean=False, was_mounted=True, needs_replay=True)),
        ("ext4-after-error", Superblock("ext4", UUID, True, is_clean=False, was_mounted=True)),
        ("xfs", Superblock("xfs", UUID, is_finished=True, is_clean=True)),
        ("xfs-unfinished", Superblock("xfs", UUID, is_finished=False, is_clean=True)),
        ("btrfs", Superblock("btrfs", UUID, is_finished=True, is_clean=True)),
        ("btrfs-unfinished", Superblock("btrfs", UUID, is_finished=False, is_clean=True)),
    ],
)
def test_a_real_superblock_is_read(captures: Path, capture: str, expected: Superblock) -> None:
    assert parse(expected.fs_type, (captures / f"{capture}.bin").read_bytes()) == expected


@pytest.mark.parametrize(("fs_type", "capture"), [("ext4", "xfs"), ("xfs", "btrfs"), ("btrfs", "ext4-clean")])
def test_a_superblock_of_another_type_is_none(captures: Path, fs_type: str, capture: str) -> None:
    assert parse(fs_type, (captures / f"{capture}.bin").read_bytes()) is None


def test_an_external_journal_is_not_an_ext4_filesystem(captures: Path) -> None:
    data = bytearray((captures / "ext4-clean.bin").read_bytes())
    data[1024 + 0x60] |= 0x8
    assert parse("ext4", bytes(data)) is None


@pytest.mark.parametrize("fs_type", PRIMARY)
def test_zeros_are_none(fs_type: str) -> None:
    assert parse(fs_type, bytes(PRIMARY[fs_type].length)) is None


@given(fs_type=st.sampled_from(sorted(PRIMARY)), data=st.binary(max_size=5000))
def test_any_bytes_are_read_without_an_error(fs_type: str, data: bytes) -> None:
    found = parse(fs_type, data)
    assert found is None or found.fs_type == fs_type
