"""The life of one volume as Docker drives it, through crashes: every call is repeated until it is answered.

What was acknowledged is written down and checked: a record that was fsynced is there ever after.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.dockerd import Dockerd
from tests.lab import leftovers, loops
from tests.lab.plugin import SERVE, VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.volumes import image_of, is_attached, is_mounted, record_of
from tests.store.files import update_volumes

NAME = "db"
OPTIONS = {"size": "16MiB", "mode": "0700"}


@dataclass
class Life:
    """One volume on one machine, and the volplug that serves it now.

    Attributes:
        machine: Where it runs.
        repeats: Whether the caller repeats a call that was not answered, as users do; dockerd itself gives
            up on it and goes on with the next.
        after_crash: Called after each crash, before the next start.
        argv: How volplug is started next; after a crash the next of `later`.
        later: The starts after that; then it is started plainly.
        env: The environment of each start.
        crashes: How often it died.
        acknowledged: Lines that were written and fsynced into the volume.
    """

    machine: LocalMachine
    repeats: bool = True
    after_crash: Callable[["Life"], None] = lambda life: None
    argv: tuple[str, ...] = SERVE
    later: list[tuple[str, ...]] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)
    crashes: int = 0
    acknowledged: list[str] = field(default_factory=list)
    volplug: VolplugProcess = field(init=False)

    def __post_init__(self) -> None:
        self.volplug = self._new(self.argv)

    def _new(self, argv: tuple[str, ...], **env: str) -> VolplugProcess:
        state_dir = self.machine.directory / "state"
        return VolplugProcess(self.machine, state_dir=state_dir, argv=argv, env={**self.env, **env})

    def start(self) -> None:
        """Start volplug; one that dies while it starts is started again."""
        try:
            self.volplug.start()
        except RuntimeError:
            self._crashed()
            self.start()

    def _crashed(self) -> None:
        assert self.crashes < 5, self.volplug.log_text
        self.volplug.kill()
        self.crashes += 1
        self.after_crash(self)
        argv = self.later.pop(0) if self.later else SERVE
        # Not before a crash: what settles in the midst of a slow life writes to the ledger, too.
        self.volplug = self._new(argv, VOLPLUG_MOUNT_GRACE_S="1")

    async def call(self, verb: str, **body: object) -> dict[str, object]:
        """Make one call; if volplug dies under it, start it again and repeat the call, or not."""
        while True:
            async with Dockerd(self.machine.directory / "p.sock") as client:
                reply = await self._try(client, verb, body)
            if reply is not None:
                assert not reply.get("Err"), (verb, reply, self.volplug.log_text)
                return reply
            settled_process = self.volplug
            wait_until(lambda process=settled_process: not process.running, 10, "it is dead")  # type: ignore[misc]  # bound now
            self._crashed()
            self.start()
            if not self.repeats:
                return {}

    @staticmethod
    async def _try(client: Dockerd, verb: str, body: dict[str, object]) -> dict[str, object] | None:
        try:
            reply = await client.raw(f"/VolumeDriver.{verb}", json.dumps(body).encode())
        except OSError:  # it died before we could connect
            return None
        return reply.json if reply is not None else None

    async def mount(self, mount_id: str) -> Path | None:
        """Mount as dockerd does: an unanswered Mount never counts, and its retry has an ID of its own."""
        for attempt in range(6):
            crashes = self.crashes
            repeats, self.repeats = self.repeats, False
            reply = await self.call("Mount", Name=NAME, ID=f"{mount_id}-{attempt}")
            self.repeats = repeats
            if crashes == self.crashes:
                self.mount_id = f"{mount_id}-{attempt}"
                return Path(str(reply["Mountpoint"]))
            if not repeats:
                return None
        raise AssertionError("mounted in vain")

    async def unmount(self) -> None:
        """Unmount the last answered Mount; dockerd never repeats it."""
        repeats, self.repeats = self.repeats, False
        await self.call("Unmount", Name=NAME, ID=self.mount_id)
        self.repeats = repeats

    def write(self, path: Path, line: str) -> None:
        """Append a line durably, as the container's database would."""
        with (path / "log").open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self.acknowledged.append(line)

    def check(self, path: Path) -> None:
        """Every acknowledged line is there, in order."""
        lines = (path / "log").read_text().splitlines() if (path / "log").exists() else []
        assert lines == self.acknowledged
        assert path.stat().st_mode & 0o7777 == 0o700

    def wait_until_detached(self) -> None:
        """Wait until volplug has detached the volume, which it does without being asked."""
        wait_until(self._is_detached, 30, f"{NAME} is detached; volplug said {self.volplug.log_text[-2000:]}")

    def _is_detached(self) -> bool:
        if not self.volplug.running:  # died behind an answer
            self._crashed()
            self.start()
        return not is_mounted(self.volplug, NAME) and not self.is_attached()

    def is_attached(self) -> bool:
        """Tell whether the volume is attached."""
        return is_attached(self.volplug, NAME)

    def make_dirty(self, crashed_image: Path) -> None:
        """Put back what the disk held at a moment when it was mounted: as after a power cut."""
        with crashed_image.open("rb") as source, image_of(self.volplug, NAME).open("r+b") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())

    def end(self) -> None:
        """Stop volplug, and check that it ends cleanly and leaves nothing mounted or attached."""
        assert self.volplug.stop() == 0, self.volplug.log_text
        assert leftovers.mounted_below(self.machine.directory) == []
        assert loops.attached_below(self.machine.directory) == []


def lose_host(life: Life) -> None:
    """What a power cut does: mounts, loop devices and processes are gone, and the boot id is another."""
    for target in leftovers.mounted_below(life.machine.directory):
        subprocess.run(["umount", target], check=True)
    loops.detach_below(life.machine.directory)
    state = life.machine.directory / "state" / "state.sqlite"
    if state.exists():
        with contextlib.suppress(sqlite3.OperationalError):  # killed before it had tables
            update_volumes(state, "boot_id = 'the boot before'")


async def live(life: Life) -> None:
    """Create, format, write, unmount, survive a power cut, check, write, unmount, remove."""
    await life.call("Create", Name=NAME, Opts=OPTIONS)
    if life.repeats or record_of(life.volplug, NAME).exists():
        await _use(life)
        life.wait_until_detached()
        await life.call("Remove", Name=NAME)
    if record_of(life.volplug, NAME).exists():
        await life.call("Remove", Name=NAME)  # a caller that gave up sees it in the list and tries again
    assert not image_of(life.volplug, NAME).exists()
    assert not record_of(life.volplug, NAME).exists()
    assert await life.call("List") == {"Volumes": []}


async def _use(life: Life) -> None:
    crashed_image = life.machine.directory / "crashed.img"
    path = await life.mount("a")
    if path is not None:
        life.write(path, "first")
        subprocess.run(["cp", image_of(life.volplug, NAME), crashed_image], check=True)
        await life.unmount()
    life.wait_until_detached()
    if path is not None:
        life.make_dirty(crashed_image)
    path = await life.mount("b")
    if path is not None:
        life.check(path)
        life.write(path, "second")
        await life.unmount()
    life.wait_until_detached()
    path = await life.mount("c")
    if path is not None:
        life.check(path)
        await life.unmount()
