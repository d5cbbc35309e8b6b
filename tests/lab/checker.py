"""A container that writes numbered records during all kinds of faults, to detect whether one is ever lost.

    checker = checker.start(engine, "db")
    ...  # kill, restart, fill, delete
    checker.await_progress()
    checker.stop()
    checker.verify()

A record counts once it is on the disk (fsync); the container then acknowledges it in a file outside of the
volume, which depends on neither the engine nor the plugin.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.lab.engine import Engine
from tests.lab.waiting import wait_until

_PROGRESS_TIMEOUT_S = 30.0
_RECORDS = 5

# Continues after the last record in the volume, so that a wrong volume is detected. Each acknowledgement is
# the number and the seconds since boot.
WRITE = (
    "n=$(wc -l </data/records 2>/dev/null || echo 0);"
    " while :; do n=$((n+1)); echo $n >>/data/records && sync /data/records || exit 1;"
    " read -r now idle </proc/uptime; echo $n $now >>/acknowledged/numbers; usleep 10000; done"
)


class Checker:
    """The container; `start` makes one.

    Attributes:
        name: Its name in Docker.
        numbers: The file in which it acknowledges.
    """

    def __init__(
        self,
        engine: Engine,
        volume: str,
        image: str,
        numbers: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._volume = volume
        self._options = options
        self._image = image
        self.numbers = numbers or engine.directory / f"checker-of-{volume}" / "numbers"
        self.name = f"checker-of-{volume}"

    def acknowledged(self) -> list[int]:
        """The acknowledged records, in the order of their acknowledgements."""
        return [number for number, _ in acknowledgements(self.numbers)]

    def is_running(self) -> bool:
        """Whether Docker shows the container as running."""
        return bool(self._state()["Running"])

    def await_progress(self) -> None:
        """Wait until it has written more records; an error if it ends instead."""
        first = len(self.acknowledged())

        def wrote() -> bool:
            assert self.is_running(), (self._state(), self._engine.docker("logs", "--tail=5", self.name))
            return len(self.acknowledged()) >= first + _RECORDS

        wait_until(wrote, _PROGRESS_TIMEOUT_S, f"{self.name} continues after {first} records")

    def stop(self) -> None:
        """Stop and remove the container."""
        self._engine.docker("stop", self.name)
        self._engine.docker("rm", self.name)

    def verify(self, records: Path | None = None) -> None:
        """Every acknowledged record is there and in order, without a gap.

        Args:
            records: The volume's file `records`, where it can be reached; otherwise a new container reads it.
        """
        acknowledged = self.acknowledged()  # before the records are read, because it may continue writing
        check_records(acknowledged, [int(line) for line in self._read(records).split()])

    def _read(self, records: Path | None) -> str:
        if records is not None:
            return records.read_text()
        mount = ("-v", f"{self._volume}:/data")
        return self._engine.output_of(*mount, *self._options, image=self._image, script="cat /data/records")

    def _state(self) -> dict[str, object]:
        shown = json.loads(self._engine.docker("container", "inspect", self.name).stdout)[0]["State"]
        assert isinstance(shown, dict)
        return shown


def check_records(acknowledged: Sequence[int], found: Sequence[int]) -> None:
    """Check the records of a volume; AssertionError if an acknowledged one is missing."""
    assert list(found) == list(range(1, len(found) + 1)), "there is a gap"
    assert acknowledged, "nothing was ever acknowledged"
    assert list(acknowledged) == sorted(set(acknowledged)), "it started again from the beginning"
    assert acknowledged[-1] <= len(found), "acknowledged records are missing"


def acknowledgements(numbers: Path) -> list[tuple[int, float]]:
    """The records that a file acknowledges, and when in seconds since boot; an incomplete line is ignored."""
    text = numbers.read_text() if numbers.exists() else ""
    lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [(int(number), float(when)) for number, when in lines]


def start(
    engine: Engine,
    volume: str,
    *options: str,
    image: str = "busybox:local",
    numbers: Path | None = None,
) -> Checker:
    """Start a checker on a volume, with options of `docker run`, and wait until it writes.

    Args:
        engine: where it runs.
        volume: what it writes to.
        options: of `docker run`.
        image: its image.
        numbers: the file of its acknowledgements; checkers on several hosts that write to one volume in turn
            share a file named `numbers`. By default the file is the engine's, and new.
    """
    checker = Checker(engine, volume, image, numbers)
    checker.numbers.parent.mkdir(exist_ok=True)
    if numbers is None:
        checker.numbers.unlink(missing_ok=True)  # of an earlier volume of this name
    mounts = ("-v", f"{volume}:/data", "-v", f"{checker.numbers.parent}:/acknowledged")
    command = ("run", "--detach", "--stop-timeout=0", f"--name={checker.name}", *mounts, *options, image)
    engine.docker(*command, "sh", "-c", WRITE)
    checker.await_progress()
    return checker
