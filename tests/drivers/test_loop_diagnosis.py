"""What `diagnose` finds on real files and loop devices."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import (
    SIZE,
    created,
    driver_of,
    image_of,
    leave_creation,
    leave_deletion,
    record_of,
    spec_of,
)
from volplug.drivers.loop.directory import unlock_all
from volplug.findings import Finding, Level
from volplug.testing.conformance.calls import problem_of

pytestmark = pytest.mark.loop

RED, YELLOW, GREEN = Level.RED, Level.YELLOW, Level.GREEN
CHECKS = ["directory", "records", "space", "direct-io", "loop-devices"]


async def diagnosed(images: Path, overcommit: float = 1.0) -> list[Finding]:
    found = list(await driver_of(images, overcommit).diagnose())
    assert [each for each in found if problem_of(each)] == []
    return found


async def test_all_is_well_on_every_filesystem(host_disk: Path) -> None:
    """With a volume that is attached and one that is not."""
    images = host_disk / "images"
    used = await created(images, "used")
    await driver_of(images).create(spec_of("idle", allocation="sparse"))
    await driver_of(images).attach(used)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in images.iterdir())
    assert [(each.check, each.level) for each in await diagnosed(images)] == [
        (each, GREEN) for each in CHECKS
    ]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in images.iterdir()) == before
    await driver_of(images).detach(used)
    assert {each.level for each in await diagnosed(images)} == {GREEN}


async def test_a_directory_that_is_not_made_yet_stays_so(images: Path) -> None:
    (found,) = await diagnosed(images / "new")
    assert (found.check, found.level) == ("directory", GREEN)
    assert not images.exists()


_OTHER = """
import asyncio, sys
from pathlib import Path
from volplug.drivers.loop.driver import LoopDriver
driver = LoopDriver('loop', 'host1', Path(sys.argv[1]), 1.0)
print(*(each.level for each in asyncio.run(driver.diagnose())), flush=True)
input()
"""


async def test_it_works_next_to_a_volplug_and_keeps_none_from_starting(host_disk: Path) -> None:
    """The lock is the running one's; a diagnosis takes none."""
    images = host_disk / "images"
    await created(images)
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OTHER, str(images)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert (await other.stdout.readline()).decode().split() == ["green"] * len(CHECKS)
    unlock_all()
    assert await driver_of(images).get("v") is not None
    await other.communicate(b"\n")


class Place:
    """A directory with images, and what has to be undone of it."""

    def __init__(self, images: Path, undo: ExitStack) -> None:
        self.images, self._undo = images, undo
        self.overcommit = 1.0

    async def make(self, name: str = "v", allocation: str = "") -> Path:
        """Make a volume; return its image."""
        await driver_of(self.images).create(spec_of(name, allocation=allocation))
        return image_of(self.images, name)

    def losetup(self, image: Path) -> None:
        """Attach an image as an operator does who knows nothing of volplug."""
        argv = ["losetup", "--find", "--show", str(image)]
        device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        self._undo.callback(subprocess.run, ["losetup", "--detach", device], check=True)

    async def open_directory(self) -> None:
        (await self.make()).parent.chmod(0o770)

    async def lose_record(self) -> None:
        await self.make()
        record_of(self.images).unlink()

    async def lose_image(self) -> None:
        (await self.make()).unlink()

    async def cut_image(self) -> None:
        os.truncate(await self.make(), SIZE // 2)

    async def spoil_record(self) -> None:
        await self.make()
        record_of(self.images).write_text("{")

    async def interrupt_creation(self) -> None:
        await asyncio.to_thread(leave_creation, self.images, spec_of(), 0)
        self.images.chmod(0o700)

    async def interrupt_deletion(self) -> None:
        await asyncio.to_thread(leave_deletion, self.images, await created(self.images))

    async def promise_too_much(self) -> None:
        await self.make(allocation="sparse")
        self.overcommit = 1e-9

    async def punch_holes(self) -> None:
        image = await self.make()
        subprocess.run(["fallocate", "--punch-hole", "--length", str(SIZE), str(image)], check=True)

    async def use_ramfs(self) -> None:
        """Its files have no direct I/O."""
        self.images.mkdir()
        argv = ["mount", "-t", "ramfs", "-o", "mode=700", "ramfs", str(self.images)]
        await asyncio.to_thread(subprocess.run, argv, check=True)
        self.images.joinpath("v.img").write_bytes(bytes(SIZE))

    async def attach_twice(self) -> None:
        image = await self.make()
        (image.parent / "link").hardlink_to(image)
        self.losetup(image)
        self.losetup(image.parent / "link")


@pytest.fixture
def place(images: Path) -> Iterator[Place]:
    with ExitStack() as undo:
        yield Place(images, undo)


Arrange = Callable[[Place], Awaitable[None]]
# What is arranged, and the finding of one check: level, subject ("" for the directory), message and remedy.
CASES: dict[str, tuple[Arrange, str, Level, str, str, str]] = {
    "others may write": (
        Place.open_directory,
        *("directory", RED, "", r"/.*/images can be written by other users .*", r"chmod go-w /.*/images"),
    ),
    "an image without its record": (
        Place.lose_record,
        *("records", YELLOW, "", "the image v.img has no record, so it is not volplug's"),
        "Restore its record, see docs/operations.md, or move it away: mv (/.*/images/v.img) \\1.old",
    ),
    "a record without its image": (
        Place.lose_image,
        *("records", RED, "v", "the image is missing: /.*/v.img"),
        "Restore it from a backup, or give it up: delete v.json and v.img",
    ),
    "an image that is too small": (
        Place.cut_image,
        *("records", RED, "v", "the image is too small: .*", "Restore it .*"),
    ),
    "a record that cannot be read": (
        Place.spoil_record,
        *("records", RED, "v", "the record is damaged: .*", "Restore it .*"),
    ),
    "an interrupted creation": (
        Place.interrupt_creation,
        *("records", YELLOW, "v", "its creation was interrupted, unless it is in progress"),
        "docker volume create with its options, or docker volume rm v",
    ),
    "an interrupted deletion": (
        Place.interrupt_deletion,
        *("records", YELLOW, "v", "its deletion was interrupted, unless it is in progress"),
        "docker volume rm v",
    ),
    "more promised than there is": (
        Place.promise_too_much,
        *(
            "space",
            YELLOW,
            "",
            "images may grow by .*, but there is room for .*; on a full disk, writes fail",
        ),
        "Free space: df -h /.*/images",
    ),
    "no direct I/O": (
        Place.use_ramfs,
        *("direct-io", YELLOW, "", "v.img has no direct I/O, so its data is in the page cache twice"),
        "Move the directory to another disk .*",
    ),
    "an image with two devices": (
        Place.attach_twice,
        *(
            "loop-devices",
            RED,
            "v",
            r"one image is attached to /dev/loop\d+ and /dev/loop\d+ at once, which .*",
        ),
        r"Stop what uses either, losetup -d /dev/loop\d+ /dev/loop\d+, then check the filesystem",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_found_with_its_remedy(place: Place, case: str) -> None:
    arrange, check, level, subject, message, remedy = CASES[case]
    await arrange(place)
    wrong = [each for each in await diagnosed(place.images, place.overcommit) if each.check == check]
    assert [(each.level, each.subject) for each in wrong] == [(level, subject or str(place.images))]
    assert re.fullmatch(message, wrong[0].message), wrong[0].message
    assert re.fullmatch(remedy, wrong[0].remedy), wrong[0].remedy


def test_each_check_has_a_case() -> None:
    assert {check for _, check, *_ in CASES.values()} == set(CHECKS)


async def test_space_that_is_not_reserved_is_after_the_command(place: Place) -> None:
    """As of an image that was copied with its holes; and its contents stay."""
    await place.punch_holes()
    with image_of(place.images).open("r+b") as image:
        image.write(b"data")
    (found,) = [each for each in await diagnosed(place.images) if each.check == "space"]
    assert (found.level, found.message) == (
        YELLOW,
        "the space of v is not reserved; on a full disk, writes fail",
    )
    command = found.remedy.partition(": ")[2]
    await asyncio.to_thread(subprocess.run, ["sh", "-c", command], check=True)
    assert {each.level for each in await diagnosed(place.images) if each.check == "space"} == {GREEN}
    assert image_of(place.images).read_bytes()[:4] == b"data"


async def test_a_disk_that_does_not_answer_is_a_finding(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that cannot be read to its end."""
    monkeypatch.setattr("volplug.drivers.loop.driver._DIAGNOSIS_S", 0.05)
    await place.make()
    os.mkfifo(record_of(place.images, "hung"))
    (found,) = await diagnosed(place.images)
    with record_of(place.images, "hung").open("w"):  # the thread ends
        pass
    assert (found.check, found.level, found.remedy) == (
        "directory",
        RED,
        "See what the kernel reports: dmesg",
    )
    assert found.message == "its disk has not answered in 0 s"
