"""Mount and Unmount: the first of a volume, cold and warm pairs, many at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Self

from benchmarks import kernel
from benchmarks import measures as m
from benchmarks.client import CallError, PluginClient, request
from benchmarks.kernel import Shell
from benchmarks.measures import Results, measure_interleaved
from benchmarks.peers import Plugin, Rclone, Volplug
from benchmarks.place import Place
from benchmarks.plan import Plan

_ID = "0" * 64
_RCLONE_PAUSE_S = 0.02
_MOST_HANGS = 3


def mount_bytes(name: str) -> bytes:
    """The bytes of a Mount request."""
    return request("Mount", {"Name": name, "ID": _ID})


@dataclass
class PairTimes:
    """The parts of cold pairs, in milliseconds."""

    mount: list[float] = field(default_factory=list)
    unmount: list[float] = field(default_factory=list)
    pair: list[float] = field(default_factory=list)

    def keep(self, results: Results, peer: str) -> None:
        """Add them to the results."""
        for measure, samples in (
            (m.MOUNT_COLD, self.mount),
            (m.UNMOUNT_COLD, self.unmount),
            (m.COLD, self.pair),
        ):
            results.add(measure, peer, samples)


class Mounts:
    """Measures mounts, on the volumes of one volplug, one rclone, and images of the same kind."""

    def __init__(
        self, results: Results, plan: Plan, where: Place, volplug: Volplug, rclone: Rclone | None
    ) -> None:
        self._results = results
        self._plan = plan
        self._where = where
        self._volplug = volplug
        self._rclone = rclone
        self._names = [f"p{number:02}" for number in range(plan.volumes)]

    def measure(self) -> None:
        """Measure everything."""
        with Shell() as shell, self._volplug.connect() as client:
            self._first(shell, client)
            directory = self._where.directory / "copies"
            images = kernel.copies(self._volplug.image(self._names[0]), directory, self._plan.volumes)
            self._cold(shell, client, images)
            self._warm(shell, images[0])
            self._parallel(shell, images)

    # The first mount of a volume

    def _first(self, shell: Shell, client: PluginClient) -> None:
        actions: dict[str, Callable[[], Sequence[float]]] = {
            m.VOLPLUG: partial(self._first_of, client, iter(self._names))
        }
        directory = self._where.directory / "new"
        directory.mkdir()
        actions[m.SHELL] = partial(self._first_by_shell, shell, directory, iter(self._names))
        measure_interleaved(self._results, m.FIRST, self._plan.volumes, actions)

    def _first_of(self, client: PluginClient, names: Iterator[str]) -> Sequence[float]:
        name = next(names)
        begun = time.perf_counter_ns()
        self._volplug.create(client, name)
        client.call("Mount", Name=name, ID=_ID)
        client.call("Unmount", Name=name, ID=_ID)
        taken = (time.perf_counter_ns() - begun) / 1e6
        self._volplug.wait_until_detached(name)
        return [taken]

    def _first_by_shell(self, shell: Shell, directory: Path, names: Iterator[str]) -> Sequence[float]:
        image, target = directory / f"{next(names)}.img", directory / "target"
        target.mkdir(exist_ok=True)
        make = f"fallocate --length 16MiB {image} && mkfs.ext4 -q -E nodiscard {image}"
        taken = shell.run(f"{make} && {kernel.pair_script(image, target)}")
        image.unlink()
        return [taken]

    # Pairs

    def _cold(self, shell: Shell, client: PluginClient, images: Sequence[tuple[Path, Path]]) -> None:
        times, names, pairs = PairTimes(), cycle(self._names), range(self._plan.pairs)
        rotating, again = cycle(images), cycle(images)
        actions: dict[str, Callable[[], Sequence[float]]] = {
            m.VOLPLUG: lambda: [self._pair(client, next(names), times) for _ in pairs],
            m.SHELL: lambda: [shell.run(kernel.pair_script(*next(rotating))) for _ in pairs],
            m.BARE: lambda: [kernel.pair(*next(again)) for _ in pairs],
        }
        with ExitStack() as stack:
            if self._rclone is not None:
                by_rclone = stack.enter_context(RclonePairs(self._where, self._plan))
                actions[m.RCLONE] = by_rclone.turn
            measure_interleaved(self._results, m.COLD_GONE, self._plan.rounds, actions)
            if self._rclone is not None:
                by_rclone.times.keep(self._results, m.RCLONE)
                if by_rclone.hung:
                    self._results.lack(m.COLD, m.RCLONE, f"{by_rclone.hung} pairs hung and are not counted")
        times.keep(self._results, m.VOLPLUG)

    def _pair(self, client: PluginClient, name: str, times: PairTimes) -> float:
        begun = time.perf_counter_ns()
        timed_pair(client, name, times)
        self._volplug.wait_until_detached(name)
        return (time.perf_counter_ns() - begun) / 1e6

    def _warm(self, shell: Shell, one: tuple[Path, Path]) -> None:
        """Measure pairs while the volume lingers: a volplug that is configured to keep it attached."""
        pairs = range(self._plan.pairs)
        image, target = one
        with Volplug(self._where, "warm", {"VOLPLUG_LINGER_S": "60"}) as warm, warm.connect() as client:
            warm.create(client, "warm")
            device = kernel.attach(image)
            by_shell = f"mount -t ext4 {device} {target} && umount {target}"
            actions: dict[str, Callable[[], Sequence[float]]] = {
                m.VOLPLUG: lambda: [_answered_pair(client, "warm") for _ in pairs],
                m.SHELL: lambda: [shell.run(by_shell) for _ in pairs],
                m.BARE: lambda: [_bare_warm_pair(device, target) for _ in pairs],
            }
            actions[m.VOLPLUG]()  # formats it
            measure_interleaved(self._results, m.WARM, self._plan.rounds, actions)
            kernel.detach(device)

    # Many at once

    def _parallel(self, shell: Shell, images: Sequence[tuple[Path, Path]]) -> None:
        actions: dict[str, Callable[[], Sequence[float]]] = {
            m.VOLPLUG: partial(self._all_at_once, self._volplug),
            m.SHELL: partial(self._all_by_shell, shell, images),
            m.BARE: partial(self._one_by_one, images),
        }
        with ExitStack() as stack:
            if self._rclone is not None:
                # If one hangs from here on, it must not affect later measurements.
                many = stack.enter_context(Rclone(self._where, "rclone-many"))
                with many.connect() as client:
                    for name in self._names:
                        many.create(client, name)
                actions[m.RCLONE] = partial(self._all_at_once, many)
            measure_interleaved(self._results, m.PARALLEL, self._plan.parallel_rounds, actions)

    def _all_at_once(self, plugin: Plugin) -> Sequence[float]:
        with ExitStack() as stack:
            clients = {name: stack.enter_context(plugin.connect()) for name in self._names}
            ready = {name: mount_bytes(name) for name in self._names}
            begun = time.perf_counter_ns()
            for name, client in clients.items():
                client.send(ready[name])
            answers = [bytes(client.receive()) for client in clients.values()]
            taken = (time.perf_counter_ns() - begun) / 1e6
            if failed := [answer for answer in answers if b'"Mountpoint"' not in answer]:
                raise CallError(f"{len(failed)} of {len(answers)} failed, the first with {failed[0]!r}")
            for name, client in clients.items():
                client.call("Unmount", Name=name, ID=_ID)
            if isinstance(plugin, Volplug):
                for name in self._names:
                    plugin.wait_until_detached(name)
            return [taken]

    def _all_by_shell(self, shell: Shell, images: Sequence[tuple[Path, Path]]) -> Sequence[float]:
        lines = [f"({kernel.mount_script(*each)}) &" for each in images]
        taken = shell.run("\n".join([*lines, "wait"]))
        for _, target in images:
            shell.run(f"device=$(findmnt -no SOURCE {target}) && umount {target} && losetup --detach $device")
        return [taken]

    def _one_by_one(self, images: Sequence[tuple[Path, Path]]) -> Sequence[float]:
        begun = time.perf_counter_ns()
        devices = []
        for image, target in images:
            devices.append(kernel.attach(image))
            kernel.mount(devices[-1], target)
        taken = (time.perf_counter_ns() - begun) / 1e6
        for (_, target), device in zip(images, devices, strict=True):
            kernel.unmount(target)
            kernel.detach(device)
        return [taken]


class RclonePairs:
    """Mount and unmount pairs of an rclone of their own, which is replaced when it hangs."""

    def __init__(self, where: Place, plan: Plan) -> None:
        self._where = where
        self._pairs = plan.pairs
        self._stack = ExitStack()
        self._names: Iterator[str] = iter(())
        self.times = PairTimes()
        self.hung = 0
        self._client = self._replaced()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _replaced(self) -> PluginClient:
        self._stack.close()
        rclone = self._stack.enter_context(Rclone(self._where, f"rclone-pairs-{self.hung}"))
        client = self._stack.enter_context(rclone.connect())
        names = [f"p{number}" for number in range(self._pairs)]
        for name in names:
            rclone.create(client, name)
        self._names = cycle(names)
        return client

    def turn(self) -> Sequence[float]:
        """Run some pairs; one that hangs is not counted."""
        done: list[float] = []
        for _ in range(self._pairs):
            time.sleep(_RCLONE_PAUSE_S)
            try:
                done.append(timed_pair(self._client, next(self._names), self.times))
            except CallError:
                self.hung += 1
                if self.hung == _MOST_HANGS:
                    raise
                self._client = self._replaced()
        return done


def timed_pair(client: PluginClient, name: str, times: PairTimes) -> float:
    """Mount and unmount, and keep the parts."""
    begun = time.perf_counter_ns()
    client.call("Mount", Name=name, ID=_ID)
    mounted = time.perf_counter_ns()
    client.call("Unmount", Name=name, ID=_ID)
    answered = time.perf_counter_ns()
    times.mount.append((mounted - begun) / 1e6)
    times.unmount.append((answered - mounted) / 1e6)
    times.pair.append((answered - begun) / 1e6)
    return (answered - begun) / 1e6


def _answered_pair(client: PluginClient, name: str) -> float:
    begun = time.perf_counter_ns()
    client.call("Mount", Name=name, ID=_ID)
    client.call("Unmount", Name=name, ID=_ID)
    return (time.perf_counter_ns() - begun) / 1e6


def _bare_warm_pair(device: str, target: Path) -> float:
    begun = time.perf_counter_ns()
    kernel.mount(device, target)
    kernel.unmount(target)
    return (time.perf_counter_ns() - begun) / 1e6
