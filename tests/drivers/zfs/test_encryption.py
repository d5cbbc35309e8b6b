"""Encrypted datasets, which zfs-fuse does not have: the commands that OpenZFS would get."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.drivers.zfs.volumes import spec_of
from volplug.drivers.zfs.capabilities import ZFS_FUSE, Capabilities
from volplug.drivers.zfs.encryption import load_key
from volplug.drivers.zfs.options import native_properties
from volplug.drivers.zfs.settings import ZfsSettings
from volplug.drivers.zfs.tools import ZfsTools
from volplug.errors import CommandFailed, Unsupported, VolplugError
from volplug.host.process import Finished

OPENZFS = Capabilities("2.1.11-1+deb12u1", True, True, True, True, 8191)
SETTINGS = ZfsSettings(pool="tank/volplug", key_file=Path("/etc/volplug/zfs.key"))


@dataclass
class Programs:
    """Answers for the first words after `zfs`; an exit code other than 0 fails."""

    status: str = "available"
    complaint: str = ""
    run: list[tuple[str, ...]] = field(default_factory=list)

    async def __call__(
        self, argv: Sequence[str], *, output_bytes: int, stdin: int | None = None, stdout: int | None = None
    ) -> Finished:
        self.run.append(tuple(argv))
        if argv[1] == "load-key" and self.complaint:
            raise CommandFailed(tuple(argv), 255, self.complaint)
        return Finished(tuple(argv), 0, f"{self.status}\n", "")


def test_an_encrypted_dataset_gets_the_key_of_the_backend() -> None:
    made = native_properties(spec_of("db", encrypted="true"), OPENZFS, SETTINGS, None)
    assert made["encryption"] == "on"
    assert (made["keyformat"], made["keylocation"]) == ("hex", "file:///etc/volplug/zfs.key")
    assert made["mountpoint"] == "legacy"
    assert "encryption" not in native_properties(spec_of("db"), OPENZFS, SETTINGS, None)
    with pytest.raises(Unsupported):
        native_properties(spec_of("db", encrypted="true"), ZFS_FUSE, SETTINGS, None)


@pytest.mark.parametrize(("status", "is_loaded"), [("available", False), ("unavailable", True)])
async def test_a_key_is_loaded_before_the_mount_unless_it_is_there(status: str, is_loaded: bool) -> None:
    programs = Programs(status)
    await load_key(ZfsTools(programs, 10), "tank/volplug/db")
    loaded = [("zfs", "load-key", "tank/volplug/db")] * is_loaded
    assert programs.run[1:] == loaded


async def test_a_key_that_cannot_be_read_is_told() -> None:
    programs = Programs("unavailable", "Key load error: Failed to open key material file: No such file")
    with pytest.raises(VolplugError, match="Failed to open key material file"):
        await load_key(ZfsTools(programs, 10), "tank/volplug/db")
