"""volplug is killed at every step of a move, on either host: the move is completed."""

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.follow.scene import TIMEOUT_S, Scene
from tests.lab.host import Host
from tests.lab.requirements import MULTIHOST
from tests.lab.serve import dying_at, noting_steps
from tests.lab.waiting import wait_until
from volplug.steps import WorldStep

pytestmark = [*MULTIHOST, pytest.mark.faults]

_LETTING_GO = [
    WorldStep.LEDGER_WRITTEN,
    WorldStep.UNMOUNT,
    WorldStep.UNMOUNTED_BEFORE_RMDIR,
    WorldStep.DETACH,
]
_GETTING_IT = [
    WorldStep.LEDGER_WRITTEN,
    WorldStep.ATTACH,
    WorldStep.BARE_DIRECTORY_MADE,
    WorldStep.MOUNT,
]
_TAKING_IT = [*_GETTING_IT, WorldStep.FENCE, WorldStep.TAKE_OVER, WorldStep.CHECK_FILESYSTEM]
_FENCE = {"VOLPLUG_TAKEOVER": "fence", "VOLPLUG_RELEASE_WAIT_S": "0"}
_MOST_OCCURRENCES = 20


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0", "VOLPLUG_MOUNT_GRACE_S": "1"}


class Move:
    """A move of a container's volume from a to b by their engines; a dead volplug is started again.

    Args:
        scene: The hosts.
        settings: Settings of every volplug that it starts.

    Attributes:
        deaths: How often volplug has died.
    """

    def __init__(self, scene: Scene, settings: Mapping[str, str] | None = None) -> None:
        self._scene = scene
        self._settings = settings
        self._written: list[str] = []
        self._observed: set[Host] = set()
        self.deaths = 0

    async def begin(self) -> None:
        """Mount it on a, and write."""
        scene = self._scene
        await self._call(scene.a, "Create", Opts=dict(scene.cloud.volume_options))
        await self._use(scene.a, "container-on-a")

    async def leave_a(self) -> None:
        """Unmount it on a; dockerd never repeats an Unmount."""
        await self._call(self._scene.a, "Unmount", ID="container-on-a")
        self.revive(self._scene.a)

    async def arrive_on_b(self) -> None:
        """Mount it on b, and check the records."""
        scene = self._scene
        await self._use(scene.b, "container-on-b")
        scene.watch.check(scene.volume)
        assert scene.cloud.holders(scene.volume) == {"b"}

    async def leave_b(self) -> None:
        """Unmount it on b, and wait until no host has it."""
        scene = self._scene
        await self._call(scene.b, "Unmount", ID="container-on-b")
        self.revive(scene.b)
        wait_until(self._is_free, TIMEOUT_S, "no host has it attached")
        self._let_them_finish()
        scene.watch.check(scene.volume)

    def restart(self, host: Host, argv: tuple[str, ...]) -> bool:
        """Restart its volplug so that it will die; return whether it has survived the start."""
        self._observed.add(host)
        host.volplug.kill()
        self._scene.changed.add(host.name)
        try:
            host.volplug.start(self._settings, argv)
        except RuntimeError:  # the start includes such steps, for volumes that it has seen before
            return False
        return True

    def revive(self, host: Host) -> None:
        """Start a volplug that has died."""
        if host.volplug.running:
            return
        self.deaths += 1
        self._observed.discard(host)
        host.volplug.kill()
        host.volplug.start(self._settings)
        if self._settings is None:  # it runs with its initial settings
            self._scene.changed.discard(host.name)

    async def _use(self, host: Host, mount_id: str) -> None:
        mountpoint = ""
        for attempt in range(3):  # an unanswered Mount never counts
            reply = await self._call(host, "Mount", ID=mount_id)
            if reply is not None:
                mountpoint = str(reply["Mountpoint"])
                break
            assert attempt < 2, host.volplug.log_tail()
        self._write(host.engine.path(mountpoint) / "log", f"on {host.name}")

    def _write(self, log: Path, line: str) -> None:
        found = log.read_text().splitlines() if log.exists() else []
        assert found == self._written
        with log.open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self._written.append(line)

    async def _call(self, host: Host, verb: str, **body: object) -> Mapping[str, object] | None:
        """Call a host's volplug; None if it died during the call and was started again."""
        text = json.dumps({"Name": self._scene.volume, **body}).encode()
        async with Dockerd(host.engine.path(host.volplug.socket)) as dockerd:
            reply = await dockerd.raw(f"/VolumeDriver.{verb}", text)
        if reply is None:
            wait_until(lambda: not host.volplug.running, TIMEOUT_S, "volplug is dead")
            self.revive(host)
            return None
        assert not reply.json.get("Err"), (verb, reply.json)
        return reply.json

    def _is_free(self) -> bool:
        for host in self._scene.hosts:  # it may die after its answer
            if host.is_on:
                self.revive(host)
        return not self._scene.cloud.holders(self._scene.volume)

    def _let_them_finish(self) -> None:
        """Stop the observed volplugs cleanly: the last steps come when the cloud has the volume back."""
        for host in self._observed:
            if host.is_on and host.volplug.stop() == -signal.SIGKILL:
                self.deaths += 1


async def _move(scene: Scene, host: Host, step: WorldStep, occurrence: int) -> tuple[int, int]:
    """Kill a host's volplug at such a step of its part of a move.

    Returns:
        At which occurrence, and how often it died; b until it has the volume: then it detaches as a does.
    """
    move = Move(scene)
    await move.begin()
    occurrence = _restart_to_die(move, host, step, occurrence)
    await move.leave_a()
    await move.arrive_on_b()
    deaths_until_arrival = move.deaths
    await move.leave_b()
    return occurrence, deaths_until_arrival if host is scene.b else move.deaths


def _restart_to_die(move: Move, host: Host, step: WorldStep, occurrence: int) -> int:
    while not move.restart(host, dying_at(step, occurrence)):
        occurrence += 1
        assert occurrence < _MOST_OCCURRENCES
    return occurrence


async def _move_killed_at_each(scene: Scene, host: Host, step: WorldStep) -> None:
    occurrence, deaths = await _move(scene, host, step, 1)
    assert deaths > 0, f"nothing was ever killed at {step}"
    while deaths > 0 and step is WorldStep.LEDGER_WRITTEN:  # which is one after each of the others
        scene.make_ready()
        occurrence, deaths = await _move(scene, host, step, occurrence + 1)


@pytest.mark.parametrize("step", _LETTING_GO)
async def test_the_host_that_detaches_is_killed(scene: Scene, step: WorldStep) -> None:
    await _move_killed_at_each(scene, scene.a, step)


@pytest.mark.parametrize("step", _GETTING_IT)
async def test_the_host_that_attaches_is_killed(scene: Scene, step: WorldStep) -> None:
    await _move_killed_at_each(scene, scene.b, step)


@pytest.mark.parametrize("step", _TAKING_IT)
async def test_the_host_that_takes_it_over_is_killed(scene: Scene, step: WorldStep) -> None:
    move = Move(scene, _FENCE)
    await move.begin()
    scene.lose(scene.a)
    _restart_to_die(move, scene.b, step, 1)
    await move.arrive_on_b()
    assert move.deaths > 0, f"nothing was ever killed at {step}"
    await move.leave_b()


async def test_a_move_and_a_takeover_take_these_steps_and_no_others(scene: Scene) -> None:
    """So that no step is missing above."""
    seen: dict[str, Counter[str]] = {}
    for is_lost in (False, True):
        move = Move(scene, _FENCE if is_lost else None)
        await move.begin()
        logs = {host.name: scene.hosts.directory / f"steps-{host.name}-{is_lost}" for host in scene.hosts}
        for host in scene.hosts:
            move.restart(host, noting_steps(logs[host.name]))
        if is_lost:
            scene.lose(scene.a)
        else:
            await move.leave_a()
        await move.arrive_on_b()
        await move.leave_b()
        seen |= {path.name: Counter(path.read_text().split()) for path in logs.values()}
        scene.make_ready()
    assert set(seen["steps-a-False"]) == set(_LETTING_GO)
    assert set(seen["steps-b-False"]) == set(_GETTING_IT) | set(_LETTING_GO)
    assert set(seen["steps-b-True"]) == set(_TAKING_IT) | set(_LETTING_GO)
