import os

import pytest

from volplug.host.mount_options import refused_options, split_options

NOATIME, NODEV, NOSUID, LAZYTIME = 1024, 4, 2, 1 << 25


@pytest.mark.parametrize(
    ("fs_type", "options", "expected"),
    [
        ("ext4", (), (0, "errors=remount-ro")),
        ("ext4", ("errors=panic",), (0, "errors=panic")),
        ("ext4", ("noatime,nodev", "nosuid"), (NOATIME | NODEV | NOSUID, "errors=remount-ro")),
        ("ext4", ("lazytime", "data=journal"), (LAZYTIME, "data=journal,errors=remount-ro")),
        ("ext4", ("defaults,rw,async,nofail,_netdev", ""), (0, "errors=remount-ro")),
        ("xfs", (), (0, "nouuid")),
        ("xfs", ("nouuid", "inode32"), (0, "nouuid,inode32")),
        ("btrfs", ("compress=zstd",), (0, "compress=zstd,nodiscard")),
        ("btrfs", ("discard=async",), (0, "discard=async")),
        ("btrfs", ("nodiscard",), (0, "nodiscard")),
    ],
)
def test_options_are_split_into_flags_and_data_with_safe_defaults(
    fs_type: str, options: tuple[str, ...], expected: tuple[int, str]
) -> None:
    assert split_options(fs_type, options) == expected


@pytest.mark.loop
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("errors=remount-ro", []),
        ("nonsense,errors=remount-ro", ["ext4: Unknown parameter 'nonsense'"]),
        ("commit=often,bogus=1", ["ext4: Bad value for 'commit'", "ext4: Unknown parameter 'bogus'"]),
    ],
)
def test_the_kernel_says_which_option_it_refuses(data: str, expected: list[str]) -> None:
    assert refused_options("ext4", data) == expected


def test_of_a_filesystem_that_the_kernel_does_not_know_nothing_is_said() -> None:
    assert refused_options("nofs", "anything") == []
