import pytest

from tests.volumes.world import spec_of
from volplug.models import BlockDevice, ContentKind, Contents, NamedFilesystem, Volume, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.capacity import describe_difference, size_match_of
from volplug.volumes.observed import SizeMatch


@pytest.mark.parametrize(
    ("device_bytes", "filesystem_bytes", "size"),
    [
        (GIB, None, SizeMatch.EQUAL),
        (GIB, GIB, SizeMatch.EQUAL),
        (GIB, GIB - 16 * MIB, SizeMatch.EQUAL),
        (GIB, GIB - 16 * MIB - 1, SizeMatch.FILESYSTEM_SMALLER),
        (GIB, GIB + 1, SizeMatch.FILESYSTEM_LARGER),
        (GIB - 1, None, SizeMatch.DEVICE_SMALLER),
        (GIB - 1, GIB, SizeMatch.FILESYSTEM_LARGER),
        (GIB - 1, GIB - 1, SizeMatch.FILESYSTEM_FITS),
        (GIB + 1, None, SizeMatch.DEVICE_LARGER),
        (GIB + 1, GIB, SizeMatch.FILESYSTEM_FITS),
        (GIB + 1, GIB + 1, SizeMatch.FILESYSTEM_FITS),
        (2 * GIB, 2 * GIB + 1, SizeMatch.FILESYSTEM_LARGER),
    ],
)
def test_the_sizes_of_record_device_and_filesystem_are_compared(
    device_bytes: int, filesystem_bytes: int | None, size: SizeMatch
) -> None:
    volume = Volume("v", "vol-1", "memory", GIB, VolumeState.IN_USE, spec_of("v"))
    source = BlockDevice("/dev/sdx", "serial", device_bytes)
    contents = Contents(ContentKind.OURS, "its filesystem", filesystem_bytes)
    assert size_match_of(volume, source, contents) is size


@pytest.mark.parametrize(
    ("device_bytes", "size"),
    [
        (GIB + 1, SizeMatch.DEVICE_LARGER),
        (GIB, SizeMatch.EQUAL),
        (GIB - 16 * MIB, SizeMatch.EQUAL),
        (GIB - 16 * MIB - 1, SizeMatch.DEVICE_SMALLER),
    ],
)
def test_a_device_may_be_smaller_by_what_its_attachment_keeps(device_bytes: int, size: SizeMatch) -> None:
    volume = Volume("v", "vol-1", "memory", GIB, VolumeState.IN_USE, spec_of("v"))
    source = BlockDevice("/dev/sdx", "serial", device_bytes, hidden_bytes=16 * MIB)
    assert size_match_of(volume, source, None) is size


def test_a_filesystem_without_a_device_has_no_size_to_compare() -> None:
    volume = Volume("v", "vol-1", "memory", GIB, VolumeState.IN_USE, spec_of("v"))
    assert size_match_of(volume, NamedFilesystem("tank/v", "1", "zfs"), None) is SizeMatch.EQUAL


FILESYSTEM = "its filesystem, 1.0GiB, is smaller than its device, "
DEVICE = "is smaller than the volume at its backend, "


@pytest.mark.parametrize(
    ("volume_gib", "device_gib", "filesystem_gib", "text"),
    [
        (1, 1, 1, ""),
        (1, 3, 3, ""),
        (3, 3, None, ""),
        (3, 3, 1, f"{FILESYSTEM}3.0GiB"),
        (1, 4, 1, f"{FILESYSTEM}4.0GiB"),
        (6, 5, 5, f"its device, 5.0GiB, {DEVICE}6.0GiB"),
        (6, 5, 1, f"{FILESYSTEM}5.0GiB; its device, 5.0GiB, {DEVICE}6.0GiB"),
    ],
)
def test_what_is_smaller_than_what_is_worded(
    volume_gib: int, device_gib: int, filesystem_gib: int | None, text: str
) -> None:
    filesystem_bytes = filesystem_gib * GIB if filesystem_gib else None
    assert describe_difference(volume_gib * GIB, device_gib * GIB, filesystem_bytes) == text
