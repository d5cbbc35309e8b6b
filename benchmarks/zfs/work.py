"""Volumes on ZFS: everything that is measured, in its order."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks import measures as m
from benchmarks.client import CallError, PluginClient, request
from benchmarks.clouds import ByVolplug
from benchmarks.measures import Results, interleaved, measure_interleaved
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.report import show
from benchmarks.samples import Samples, milliseconds
from benchmarks.zfs import measures as z
from benchmarks.zfs.ways import ByCommands, is_bare, pool, volplug_on

_MODEL: Final = "model"
_USED: Final = "used"
_HEARD_S: Final = 0.1  # after which the daemon of zfs-fuse has heard of an unmount


class ZfsWork:
    """Takes datasets through their lives, by volplug and by the commands in turns.

    Args:
        results: Where the figures go.
        plan: How often.
        ours: By volplug.
        bare: By the commands of zfs.
    """

    def __init__(self, results: Results, plan: Plan, ours: ByVolplug, bare: ByCommands) -> None:
        self._results = results
        self._rounds = plan.rounds * plan.pairs
        self._ours = ours
        self._bare = bare
        self._samples = Samples()

    def measure_lives(self) -> None:
        """Measure Create and Remove, with new names."""
        names = iter(range(2 * self._rounds))
        self._take_turns(
            lambda: self._live(f"v{next(names)}"),
            lambda: self._live_by_commands(f"b{next(names)}"),
        )
        for measure in (z.CREATE, z.CREATE_COMMANDS, z.REMOVE, z.REMOVE_COMMANDS):
            self._samples.keep(self._results, measure)

    def measure_mounts(self) -> None:
        """Measure Mount and Unmount of a volume that was mounted before."""
        self._ours.create(_USED)
        self._mount(Samples())
        self._bare.create(f"{_USED}-bare")
        self._take_turns(lambda: self._mount(self._samples), lambda: self._mount_by_commands(f"{_USED}-bare"))
        for measure in (z.MOUNT, z.MOUNT_COMMANDS, z.UNMOUNT, z.GONE):
            self._samples.keep(self._results, measure)

    def _take_turns(self, by_volplug: Callable[[], None], by_commands: Callable[[], None]) -> None:
        def turn(act: Callable[[], None]) -> Sequence[float]:
            act()
            return ()

        ways = {m.VOLPLUG: partial(turn, by_volplug), m.SHELL: partial(turn, by_commands)}
        _, failures = interleaved(self._rounds, ways)
        if failures:
            raise CallError(f"a way failed: {failures}")

    def _live(self, name: str) -> None:
        self._samples.time(z.CREATE, m.VOLPLUG, partial(self._ours.create, name))
        self._samples.time(z.REMOVE, m.VOLPLUG, partial(self._ours.remove, name))

    def _live_by_commands(self, name: str) -> None:
        bare, note = self._bare, self._samples.note
        created, read, written = bare.create(name), bare.read(name), bare.complete(name)
        note(z.CREATE, m.SHELL, created)
        note(z.CREATE_COMMANDS, m.VOLPLUG, read + created + read + written)
        note(z.REMOVE, m.SHELL, bare.destroy(name))
        bare.create(name)
        note(z.REMOVE_COMMANDS, m.VOLPLUG, bare.read(name) + bare.destroy(name, privately=True))

    def _mount(self, samples: Samples) -> None:
        time.sleep(_HEARD_S)
        samples.time(z.MOUNT, m.VOLPLUG, partial(self._ours.mount, _USED))
        answered = samples.time(z.UNMOUNT, m.VOLPLUG, partial(self._ours.unmount, _USED))
        gone = answered + milliseconds(partial(self._ours.wait_detached, _USED))
        samples.note(z.GONE, m.VOLPLUG, gone)

    def _mount_by_commands(self, name: str) -> None:
        read, mounted = self._bare.read(name), self._bare.mount(name)
        self._samples.note(z.MOUNT, m.SHELL, mounted)
        self._samples.note(z.MOUNT_COMMANDS, m.VOLPLUG, read + mounted)
        self._samples.note(z.UNMOUNT, m.SHELL, self._bare.unmount(name))


def measure_zfs(results: Results, plan: Plan, where: Place) -> None:
    """Measure everything."""
    with ExitStack() as stack:
        tank = stack.enter_context(pool(where))
        parent = tank.new_parent()
        volplug = stack.enter_context(volplug_on(where, parent))
        client = stack.enter_context(volplug.connect()).with_room()
        ours = ByVolplug(volplug, client, lambda: is_bare(volplug))
        ours.create(_MODEL)
        bare = ByCommands(parent, f"{parent}/{_MODEL}", where.directory / "bare")
        work = ZfsWork(results, plan, ours, bare)
        show("create and remove")
        work.measure_lives()
        show("mounts")
        work.measure_mounts()
        show("1,000 datasets")
        _measure_lists(results, plan, client, ours, bare)


def _measure_lists(
    results: Results, plan: Plan, client: PluginClient, ours: ByVolplug, bare: ByCommands
) -> None:
    listing = plan.lists[m.LIST_1000.key]
    existing = len(client.call("List")["Volumes"])
    for number in range(existing, listing.volumes):
        ours.create(f"more{number:04}")

    def list_anew() -> Sequence[float]:
        ours.create("new")
        ours.remove("new")
        return client.timed(request("List", {}), 1)

    measure_interleaved(
        results, z.LIST_ANEW, plan.list_rounds, {m.VOLPLUG: list_anew, m.SHELL: lambda: [bare.list()]}
    )
    listed = len(client.call("List")["Volumes"])
    if listed != max(listing.volumes, existing):
        raise CallError(f"volplug lists {listed} volumes")
    results.add(z.LIST, m.VOLPLUG, client.timed(request("List", {}), listing.calls))
    results.add(z.GET, m.VOLPLUG, client.timed(request("Get", {"Name": _MODEL}), listing.calls))
