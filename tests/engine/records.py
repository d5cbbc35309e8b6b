"""A container that writes without a pause, to see whether its data path ever breaks."""

from typing import Self

from tests.engine.use import inspect, run, start
from tests.lab.engine import Engine
from tests.lab.waiting import wait_until

_PROGRESS_TIMEOUT_S = 30.0
_RECORDS = 5

# Goes on where it stopped. A number is on the disk (fsync) before it is said, so a number that was said
# must never be missing.
_WRITE = (
    "n=$(wc -l </data/records 2>/dev/null || echo 0);"
    " while :; do n=$((n+1)); echo $n >>/data/records && sync /data/records && echo $n || exit 1;"
    " usleep 10000; done"
)


class Writer:
    """Writes numbered records to a volume, and says each number once it is on the disk."""

    def __init__(self, engine: Engine, volume: str, *options: str) -> None:
        self._engine = engine
        self._volume = volume
        self._options = options
        self.name = f"writer-of-{volume}"

    def start(self) -> Self:
        """Start the container and wait until it writes."""
        start(self._engine, self.name, "-v", f"{self._volume}:/data", *self._options, script=_WRITE)
        self.goes_on()
        return self

    def last_said(self) -> int:
        """The last record that it says is on the disk."""
        said = self._engine.docker("logs", "--tail=1", self.name).stdout.strip()
        return int(said) if said else 0

    def goes_on(self) -> None:
        """Wait until it has written some more; an error if it ends instead."""
        first = self.last_said()

        def wrote() -> bool:
            state = inspect(self._engine, "container", self.name)["State"]
            assert state["Running"], (state, self._engine.docker("logs", "--tail=5", self.name))
            return self.last_said() >= first + _RECORDS

        wait_until(wrote, _PROGRESS_TIMEOUT_S, f"{self.name} goes on after record {first}")

    def remove(self) -> int:
        """Stop and remove the container; returns the last record that it said."""
        self._engine.docker("stop", self.name)
        said = self.last_said()
        self._engine.docker("rm", self.name)
        return said

    def read_by_another(self) -> int:
        """The last record that a new container finds; an error if there is a gap before it."""
        found = run(self._engine, "-v", f"{self._volume}:/data", script="cat /data/records").split()
        assert found == [str(number) for number in range(1, len(found) + 1)]
        return len(found)
