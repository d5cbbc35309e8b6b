"""`volplug serve` on a machine whose wall clock is wrong, by as much as a file says at the moment.

The machine's own clock cannot be set in a test. What is changed here is what Python code sees: `time.time`
and `datetime.now`. Timers, the event loop and SQLite never ask for the wall clock.
"""

import datetime
import sys
import time
from pathlib import Path

_real_time = time.time


class _WrongDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_WrongDatetime":
        return cls.fromtimestamp(time.time(), tz)


def main(offset_file: Path) -> int:
    """Serve with the clock ahead by the number of seconds in a file."""

    def wrong_time() -> float:
        return _real_time() + float(offset_file.read_text())

    time.time = wrong_time
    datetime.datetime = _WrongDatetime  # type: ignore[misc]  # for all who import it from here on
    from volplug.__main__ import main as volplug_main

    return volplug_main(["serve"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
