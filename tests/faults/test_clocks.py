"""The wall clock jumps: nothing but the date of creation ever depends on it."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.faults.agreement import assert_agreement, mounted
from tests.faults.records import Records
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine

_ROOT = Path(__file__).parents[2]
_YEAR_S = 365 * 24 * 3600
_WALL_CLOCK = re.compile(
    r"\bdatetime\.(now|utcnow|today)\b|\btime\.(time|time_ns|localtime|gmtime)\b|\bst_[mac]time|CLOCK_REALTIME"
)
_JUMPS = (50 * _YEAR_S, -40 * _YEAR_S, 0, -1)


def _client(machine: LocalMachine) -> Dockerd:
    return Dockerd(machine.directory / "p.sock")


@pytest.mark.faults
@pytest.mark.loop
async def test_mounts_trials_and_restarts_heed_no_wall_clock(machine: LocalMachine) -> None:
    ahead = machine.directory / "ahead"
    ahead.write_text(str(10 * _YEAR_S))
    argv = (sys.executable, "-m", "tests.faults.wrong_clock", str(ahead))
    with VolplugProcess(machine, argv=argv) as volplug:
        async with _client(machine) as dockerd:
            await dockerd.ok("Create", Name="db", Opts={"size": "16MiB"})
            created_at = (await dockerd.ok("Get", Name="db"))["Volume"]["CreatedAt"]
            wrong_by = datetime.fromisoformat(created_at) - datetime.now(UTC)
            assert wrong_by > timedelta(days=9 * 365), "the clock that volplug sees is wrong"
            records = Records(Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"]))
            for jump_s in _JUMPS:
                ahead.write_text(str(jump_s))
                records.write(2)
                assert (await dockerd.ok("Get", Name="db"))["Volume"]["CreatedAt"] == created_at
                await _refused_as_recent(dockerd)
                await dockerd.ok("Mount", Name="db", ID="b")
                await dockerd.ok("Unmount", Name="db", ID="b")
                await assert_agreement(dockerd, volplug, {"db": 1})
        for jump_s, mount_grace_s in zip(_JUMPS[:2], ("60", "0"), strict=True):
            volplug.kill()
            records.write(2)
            ahead.write_text(str(jump_s))
            volplug.start(env={"VOLPLUG_MOUNT_GRACE_S": mount_grace_s})
        wait_until(lambda: not mounted(volplug), 20, "the last start finds out that nobody uses it")
        async with _client(machine) as dockerd:
            await dockerd.ok("Mount", Name="db", ID="c")
            records.check()
            await dockerd.ok("Unmount", Name="db", ID="c")
            await assert_agreement(dockerd, volplug, {})


async def _refused_as_recent(dockerd: Dockerd) -> None:
    """The age of a Mount is counted from the boot, whatever the wall clock says."""
    error = await dockerd.error("Remove", Name="db")
    age = re.search(r"the volume was mounted for Docker (\d+) s ago and not unmounted", error)
    assert age is not None, error
    assert int(age[1]) < 60


def test_only_dates_for_people_are_taken_from_the_wall_clock() -> None:
    package = _ROOT / "volplug"
    rooms = ("volumes", "host", "store", "handlers", "drivers/loop")
    sources = [*package.glob("*.py"), *(each for room in rooms for each in (package / room).rglob("*.py"))]
    asking = {str(each.relative_to(package)) for each in sources if _WALL_CLOCK.search(each.read_text())}
    # When a volume was created and when an operation failed, the name of a damaged state file that is set
    # aside, whether a file is old enough for its times to tell it from the next one, or was changed, when
    # events happened and operations began and ended, and since when a node is there.
    assert asking == {
        "app.py",
        "drivers/loop/driver.py",
        "drivers/loop/listing.py",
        "drivers/loop/records.py",
        "host/reread.py",
        "store/sqlite.py",
        "volumes/events.py",
        "volumes/node.py",
        "volumes/operations.py",
    }
