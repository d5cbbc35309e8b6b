import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.errors import InvalidOption
from volplug.host.filesystems.options import check_mkfs_options, check_mount_options

ALLOWED = {
    "ext4": "-C -E -G -I -L -N -O -T -b -i -m",
    "xfs": "-L -b -d -i -l -m -n -s",
    "btrfs": "--checksum --csum -L -O -R -d -m -n -s",
}


@pytest.mark.parametrize(
    ("fs_type", "text", "checked"),
    [
        ("ext4", "", []),
        ("ext4", "-m 0", ["-m", "0"]),
        ("ext4", "-m0 -L data", ["-m", "0", "-L", "data"]),
        ("ext4", "-O ^has_journal,metadata_csum", ["-O", "^has_journal,metadata_csum"]),
        ("ext4", "-E lazy_itable_init=0,stride=16", ["-E", "lazy_itable_init=0,stride=16"]),
        ("ext4", "-i 4096 -I 256 -T largefile", ["-i", "4096", "-I", "256", "-T", "largefile"]),
        ("xfs", "-m reflink=1 -d agcount=4", ["-m", "reflink=1", "-d", "agcount=4"]),
        ("xfs", "-n ftype=1 -l size=64m", ["-n", "ftype=1", "-l", "size=64m"]),
        ("btrfs", "--csum=xxhash -d single", ["--csum", "xxhash", "-d", "single"]),
        ("btrfs", "--checksum blake2 -m dup", ["--checksum", "blake2", "-m", "dup"]),
    ],
)
def test_allowed_mkfs_options_come_as_flags_with_values(fs_type: str, text: str, checked: list[str]) -> None:
    assert check_mkfs_options(fs_type, shlex.split(text)) == tuple(checked)


@pytest.mark.parametrize(
    ("fs_type", "text", "shown"),
    [
        # Force
        ("ext4", "-F", "-F"),
        ("ext4", "-FF", "-FF"),
        ("ext4", "-m 0 -F", "-F"),
        ("ext4", "-m -F", "-m -F"),
        ("xfs", "-f", "-f"),
        ("btrfs", "-f", "-f"),
        ("btrfs", "--force", "--force"),
        ("btrfs", "--csum -f", "--csum -f"),
        # Other devices and files
        ("ext4", "/dev/sda", "/dev/sda"),
        ("ext4", "-m 0 /dev/sda", "/dev/sda"),
        ("ext4", "-J device=/dev/sdb", "-J"),
        ("ext4", "-d /etc", "-d"),
        ("ext4", "-L /dev/sda", "-L /dev/sda"),
        ("ext4", "-O journal_dev", "-O journal_dev"),
        ("xfs", "-l logdev=/dev/sdb", "-l logdev=/dev/sdb"),
        ("xfs", "-l logdev=sdb", "-l logdev=sdb"),
        ("xfs", "-d name=image,file", "-d name=image,file"),
        ("xfs", "-r rtdev=/dev/sdb", "-r"),
        ("xfs", "-p /etc/passwd", "-p"),
        ("btrfs", "--rootdir /etc", "--rootdir"),
        ("btrfs", "-r /etc", "-r"),
        # Identity
        ("ext4", "-U 0c6f6d3c-9a0b-4f0e-8a4e-111122223333", "-U"),
        ("xfs", "-m uuid=0c6f6d3c-9a0b-4f0e-8a4e-111122223333", None),
        ("btrfs", "-U random", "-U"),
        ("btrfs", "--uuid=random", "--uuid random"),
        # Nothing that makes sense
        ("ext4", "-m", "-m"),
        ("ext4", "--", "--"),
        ("ext4", "-n", "-n"),
        ("ext4", "-S", "-S"),
        ("ext4", "-t ext2", "-t"),
        ("ext4", "1G", "1G"),
        ("ext4", "''", ""),
        ("xfs", "-N", "-N"),
    ],
)
def test_dangerous_mkfs_options_are_refused_naming_them(fs_type: str, text: str, shown: str | None) -> None:
    with pytest.raises(InvalidOption) as refused:
        check_mkfs_options(fs_type, shlex.split(text))
    assert refused.value.remedy == f"Allowed are, each with a value: {ALLOWED[fs_type]}"
    if shown is not None:
        assert refused.value.cause == (
            f"option 'mkfs-opts' has {shown!r}, which is not allowed for {fs_type}"
        )
    assert str(refused.value).endswith(f"{ALLOWED[fs_type]}.")


@given(st.sampled_from(sorted(ALLOWED)), st.lists(st.text(max_size=12), max_size=6))
def test_no_mkfs_argument_becomes_a_device_or_a_flag_of_its_own(fs_type: str, arguments: list[str]) -> None:
    try:
        checked = check_mkfs_options(fs_type, arguments)
    except InvalidOption:
        return
    flags, values = checked[::2], checked[1::2]
    assert len(flags) == len(values)
    assert set(flags) <= set(ALLOWED[fs_type].split())
    assert not any(value.startswith("-") or "/" in value for value in values)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", ()),
        (" , ,", ()),
        ("noatime", ("noatime",)),
        ("noatime, nodiratime ,discard", ("noatime", "nodiratime", "discard")),
        ("errors=remount-ro,commit=30", ("errors=remount-ro", "commit=30")),
        ("compress=zstd:3,space_cache=v2", ("compress=zstd:3", "space_cache=v2")),
        ("data=journal", ("data=journal",)),
        ("nosuid,nodev,noexec", ("nosuid", "nodev", "noexec")),
    ],
)
def test_allowed_mount_options(text: str, options: tuple[str, ...]) -> None:
    assert check_mount_options(text) == options


@pytest.mark.parametrize(
    "option",
    [
        *("rw", "remount", "bind", "rbind", "move", "loop", "loop=/dev/loop0", "offset=4096", "sizelimit=1"),
        *("nouuid", "noload", "norecovery", "nologreplay", "degraded", "rescue=all", "sb=131072"),
        *("logdev=x", "rtdev=x", "device=x", "journal_path=x", "journal_dev=8", "subvol=x", "subvolid=5"),
        *("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
        *("errors=panic", "fatal_errors=panic"),
        *("device=/dev/sda", "x=/etc", "a b", "a;b", "a\nb", "x=", "=x", "é", "x=$(id)"),
    ],
)
def test_dangerous_mount_options_are_refused_naming_them(option: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        check_mount_options(f"noatime,{option}")
    assert refused.value.cause == f"option 'mount-opts' has {option!r}, which is not allowed"


def test_of_a_filesystem_by_name_only_options_of_the_mount_itself_are_allowed() -> None:
    assert check_mount_options("noatime,nosuid", "zfs") == ("noatime", "nosuid")
    for option in ("zfsutil", "xattr", "compress=lz4", "ro", "nonsense"):
        with pytest.raises(InvalidOption, match="which is not allowed for zfs"):
            check_mount_options(f"noatime,{option}", "zfs")


def test_read_only_is_dockers_to_ask_for() -> None:
    with pytest.raises(InvalidOption) as refused:
        check_mount_options("ro")
    assert str(refused.value) == (
        "option 'mount-opts' has 'ro', which is not allowed. Use docker run -v NAME:/path:ro for read-only."
    )
