"""volplug is killed at each step of a volume's life on a real pool, and brought back: nothing is lost.

As tests/faults/test_kill_matrix.py, whose kill points are those of a device; here are those of a dataset.
Each step has one variant in every run; the others are slow.
"""

import contextlib
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.drivers.zfs.volumes import despite_crashes
from tests.faults.agreement import mounted, recorded
from tests.faults.life import NAME, OPTIONS, Life
from tests.lab import leftovers
from tests.lab.fork_server import ForkServer
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.serve import dying_at, noting_steps
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsPool
from tests.served.conftest import LocalMachine, fork_server, local_machine
from tests.store.files import update_volumes
from volplug.host import mountinfo
from volplug.steps import WorldStep

__all__ = ["fork_server"]

pytestmark = [*ZFS, pytest.mark.faults]

_AT_EACH_MOUNT: Final = (
    WorldStep.DATASET_NOTED,
    WorldStep.ATTACH,
    *([] if HAS_OPENZFS else [WorldStep.DATASET_STAGED]),
    WorldStep.BARE_DIRECTORY_MADE,
    WorldStep.MOUNT,
    WorldStep.UNMOUNTED_BEFORE_RMDIR,
    WorldStep.UNMOUNT,
    WorldStep.DETACH,
)
_ONCE: Final = (
    WorldStep.DATASET_MADE,
    WorldStep.CREATE,
    WorldStep.DATA_DIRECTORY_MADE,
    WorldStep.FINISH_FORMAT,
    WorldStep.DELETE,
)
_OCCURRENCES: Final = (
    dict.fromkeys(_ONCE, 1) | dict.fromkeys(_AT_EACH_MOUNT, 2) | {WorldStep.LEDGER_WRITTEN: 12}
)
_REPEATS, _GIVES_UP, _KILLED_AGAIN, _HOST_LOST = _VARIANTS = range(4)
_KILL_POINTS: Final = [
    (step, number) for step, times in _OCCURRENCES.items() for number in range(1, times + 1)
]
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
# The next starts are killed, too.
_AGAIN: Final = (WorldStep.LEDGER_WRITTEN, WorldStep.UNMOUNT, WorldStep.DETACH, WorldStep.LEDGER_WRITTEN)


class ZfsLife(Life):
    """The life of a volume on a pool.

    Attributes:
        pool: The pool.
        parent: The dataset of its volumes.
    """

    def __init__(
        self, machine: LocalMachine, pool: ZfsPool, argv: tuple[str, ...], variant: int = _REPEATS
    ) -> None:
        self.pool = pool
        self.parent = pool.new_parent()
        config = machine.directory / "config.toml"
        config.write_text(f'[backends.tank]\ndriver = "zfs"\npool = "{self.parent}"\nreserve = ""\n')
        super().__init__(
            machine,
            repeats=variant != _GIVES_UP,
            after_crash=(lambda _: self._lose_host()) if variant == _HOST_LOST else (lambda _: None),
            argv=argv,
            later=[dying_at(each) for each in _AGAIN] if variant == _KILLED_AGAIN else [],
            env={"VOLPLUG_CONFIG": str(config)},
        )

    def is_attached(self) -> bool:
        return bool(self._noted() or self._mounted())

    def datasets(self) -> list[str]:
        listed = self.pool.zfs.zfs("list", "-H", "-r", "-d", "1", "-o", "name", self.parent)
        return [name.rpartition("/")[2] for name in listed.split()[1:]]

    def assert_agreement(self, names: list[str]) -> None:
        """Exactly these volumes are counted in the ledger, mounted, and noted as attached."""
        assert list(recorded(self.volplug)) == sorted(mounted(self.volplug)) == self._noted() == names
        assert self._mounted() == [f"{self.parent}/{name}" for name in names], "nothing is left staged"

    def _noted(self) -> list[str]:
        notes = self.volplug.state_dir / "backends" / "tank.attached" / _BOOT_ID
        return [note.suffix.removeprefix(".") for note in notes.glob("*")]

    def _mounted(self) -> list[str]:
        """The datasets that the kernel shows as mounted, once for each mount."""
        entries = mountinfo.parse(Path("/proc/self/mountinfo").read_text())
        return [each.source for each in entries if each.source.startswith(self.parent)]

    def _lose_host(self) -> None:
        """What a power cut does, but for what was not written yet: zfs-fuse loses even what was synced."""
        wait_until(self._is_exported, 10, "no command that volplug started still runs")
        self.pool.zfs.zpool("import", "-d", str(self.pool.zfs.directory), self.pool.name)
        notes = self.volplug.state_dir / "backends" / "tank.attached" / _BOOT_ID
        if notes.exists():
            notes.rename(notes.with_name(f"boot-{self.crashes}"))
        with contextlib.suppress(sqlite3.OperationalError):  # killed before it had tables
            update_volumes(self.volplug.state_dir / "state.sqlite", "boot_id = 'the boot before'")

    def _is_exported(self) -> bool:
        for target in leftovers.mounted_below(self.machine.directory):
            subprocess.run(["umount", target], check=True)
        return self.pool.zfs.run(["zpool", "export", self.pool.name]).returncode == 0


async def _live(life: ZfsLife) -> None:
    await life.call("Create", Name=NAME, Opts=OPTIONS)
    if life.datasets():
        for mount_id in ("a", "b"):
            path = await life.mount(mount_id)
            if path is not None:
                life.check(path)
                life.write(path, mount_id)
                life.assert_agreement([NAME])
                await life.unmount()
            life.wait_until_detached()
            life.assert_agreement([])
        await life.call("Remove", Name=NAME)
    if life.datasets():
        await life.call("Remove", Name=NAME)  # a caller that gave up sees it in the list and tries again
    assert life.datasets() == []
    assert await life.call("List") == {"Volumes": []}


async def _live_and_end(life: ZfsLife) -> None:
    try:
        life.start()
        await _live(life)
    except BaseException:
        life.volplug.kill()
        raise
    life.end()
    life.assert_agreement([])


def _is_usual(step: WorldStep, occurrence: int, variant: int) -> bool:
    """Deal out the variants to the steps: one occurrence of each, but several of the ledger's."""
    number = list(_OCCURRENCES).index(step)
    if step is WorldStep.LEDGER_WRITTEN:
        return occurrence % 4 == 0 and variant == occurrence // 4 % len(_VARIANTS)
    return occurrence == 1 + number % _OCCURRENCES[step] and variant == number % len(_VARIANTS)


_CASES: Final = [
    pytest.param(*point, variant, marks=() if _is_usual(*point, variant) else pytest.mark.slow)
    for point in _KILL_POINTS
    for variant in _VARIANTS
]


def test_it_is_killed_at_each_step_of_a_dataset_and_in_each_variant() -> None:
    killed = [case.values for case in _CASES if not case.marks]
    assert {step for step, _, _ in killed} == set(_OCCURRENCES)
    assert {variant for _, _, variant in killed} == set(_VARIANTS)
    of_datasets = {step for step in WorldStep if step.name.startswith("DATASET_")}
    assert of_datasets - set(_OCCURRENCES) == ({WorldStep.DATASET_STAGED} if HAS_OPENZFS else set())


async def test_a_life_takes_each_step_as_often_as_it_is_killed_there(
    fork_server: ForkServer, pool: ZfsPool
) -> None:
    async def attempt() -> None:
        with local_machine(fork_server) as machine:
            file = machine.directory / "steps"
            await _live_and_end(ZfsLife(machine, pool, noting_steps(file)))
            steps = Counter(WorldStep(line) for line in file.read_text().splitlines())
        assert steps == Counter(_OCCURRENCES)

    await despite_crashes(pool.zfs, attempt)


@pytest.mark.parametrize(("step", "occurrence", "variant"), _CASES)
async def test_what_a_killed_volplug_has_begun_is_finished_and_nothing_is_lost(
    fork_server: ForkServer, pool: ZfsPool, step: WorldStep, occurrence: int, variant: int
) -> None:
    async def attempt() -> None:
        with local_machine(fork_server) as machine:
            life = ZfsLife(machine, pool, dying_at(step, occurrence), variant)
            await _live_and_end(life)
        # Once the volume is deleted, nothing of it is written any more.
        assert life.crashes > (1 if variant == _KILLED_AGAIN and step is not WorldStep.DELETE else 0)

    await despite_crashes(pool.zfs, attempt)
