from pathlib import Path

import pytest

from volplug.host.process import Finished
from volplug.host.signatures import interpret


@pytest.mark.parametrize(
    ("capture", "description"),
    [
        ("lvm", "an LVM2_member signature"),
        ("lvm-and-ext4", "an LVM2_member signature"),
        ("luks", "a crypto_LUKS signature"),
        ("swap", "a swap signature"),
        ("dos", "a dos partition table"),
        ("ext4", "an ext4 filesystem (0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0)"),
        ("xfs", "an xfs filesystem (0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0)"),
        ("btrfs", "a btrfs filesystem (0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0)"),
    ],
)
def test_real_output_of_blkid_is_described(captures: Path, capture: str, description: str) -> None:
    output = (captures / f"blkid-{capture}.txt").read_text()
    signature = interpret(Finished(("blkid",), 0, output, ""))
    assert signature is not None
    assert signature.describe() == description


def test_nothing_found_is_none() -> None:
    assert interpret(Finished(("blkid",), 2, "", "")) is None


def test_contradicting_signatures_are_a_signature() -> None:
    complaint = "blkid: /dev/loop0: ambivalent result (probably more filesystems on the device)\n"
    signature = interpret(Finished(("blkid",), 8, "", complaint))
    assert signature is not None
    assert signature.describe() == "several contradicting signatures"


def test_a_partition_table_beside_a_filesystem_is_kept() -> None:
    signature = interpret(Finished(("blkid",), 0, "TYPE=vfat\nUSAGE=filesystem\nPTTYPE=dos\n", ""))
    assert signature is not None
    assert signature.partition_table == "dos"
    assert signature.describe() == "a vfat filesystem"
