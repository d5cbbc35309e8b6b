"""Reads with blkid what signatures a device has: filesystems, partition tables, LVM, LUKS, RAID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from volplug.host.process import Finished, run
from volplug.host.threads import Pool

_NOTHING_FOUND: Final = 2
_AMBIVALENT: Final = 8


@dataclass(frozen=True, slots=True)
class Signature:
    """What blkid reports of a device.

    Attributes:
        fs_type: blkid's TYPE, such as LVM2_member; empty if there is only a partition table.
        usage: blkid's USAGE: filesystem, raid, crypto or other.
        uuid: As blkid writes it; may be empty.
        partition_table: blkid's PTTYPE, such as dos or gpt; empty if there is none.
        is_ambivalent: Several signatures contradict each other, so blkid names none of them.
    """

    fs_type: str = ""
    usage: str = ""
    uuid: str = ""
    partition_table: str = ""
    is_ambivalent: bool = False

    def describe(self) -> str:
        """Return its name for an error message, such as `an LVM2_member signature`."""
        if self.is_ambivalent:
            return "several contradicting signatures"
        if self.partition_table and not self.fs_type:
            return f"a {self.partition_table} partition table"
        noun = "filesystem" if self.usage == "filesystem" else "signature"
        known_as = f" ({self.uuid})" if self.uuid and noun == "filesystem" else ""
        return f"{with_article(self.fs_type)} {noun}{known_as}"


async def probe(pool: Pool, device: str) -> Signature | None:
    """Probe a device with blkid, without its cache.

    None does not prove that a device is blank: blkid knows only some formats, and reports nothing either for
    a device that it cannot read.

    Raises:
        CommandFailed: If blkid fails.
        Unsupported: If there is no blkid.
    """
    argv = ("blkid", "-p", "-o", "export", device)
    return interpret(await run(pool, argv, ok=(0, _NOTHING_FOUND, _AMBIVALENT)))


def interpret(finished: Finished) -> Signature | None:
    """Read exit code and output of `blkid -p -o export`. Pure."""
    if finished.exit_code == _AMBIVALENT:
        return Signature(is_ambivalent=True)
    pairs = dict(line.split("=", 1) for line in finished.stdout.splitlines() if "=" in line)
    signature = Signature(
        fs_type=pairs.get("TYPE", ""),
        usage=pairs.get("USAGE", ""),
        uuid=pairs.get("UUID", ""),
        partition_table=pairs.get("PTTYPE", ""),
    )
    return signature if signature.fs_type or signature.partition_table else None


def with_article(word: str) -> str:
    """Put `a` or `an` before a format's name, by its pronunciation."""
    spoken_with_vowel = word[:1].lower() in "aeioux" or word[:2] in {"LV", "NT", "nt", "nf"}
    return f"{'an' if spoken_with_vowel else 'a'} {word}"
