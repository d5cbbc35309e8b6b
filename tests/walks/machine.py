"""The walk: anything that may happen to two hosts and their cloud, in any order."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.volumes.world import Clock
from tests.walks.laboratory import Laboratory, Lag
from tests.walks.mortal import Killed
from tests.walks.node import Container, Node
from volplug.drivers.memory import device_of
from volplug.errors import BackendUnavailable
from volplug.models import FilesystemPhase

NODES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["v", "v", "w"])
ACTIONS = st.sampled_from(["create", "remove", "run", "stop", "copy", "leave", "look"])
_ROUNDS = 30


class HostsWalk(RuleBasedStateMachine):
    """Two hosts on one cloud."""

    ROUNDS: ClassVar[int] = _ROUNDS

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note_exception)
        self._clock = Clock()
        self._laboratory = Laboratory()
        self._nodes = {name: Node(self._laboratory, name, self._clock) for name in ("a", "b")}
        for node in self._nodes.values():
            self._do(node.start())

    def _do(self, *actions: Coroutine[Any, Any, object]) -> None:
        async def together() -> None:
            results = await asyncio.gather(*actions, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, Killed):
                    raise result

        self._loop.run_until_complete(together())

    def _note_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self._laboratory.breach(f"{context.get('message')}: {error!r}")

    # What people do

    @rule(node=NODES, action=ACTIONS, name=NAMES)
    def act(self, node: str, action: str, name: str) -> None:
        self._do(self._action(node, action, name))

    @rule(node=NODES, name=NAMES)
    def create_and_run(self, node: str, name: str) -> None:
        async def both() -> None:
            await self._nodes[node].create(name)
            await self._nodes[node].run(name)

        self._do(both())

    @rule(first=st.tuples(NODES, ACTIONS, NAMES), second=st.tuples(NODES, ACTIONS, NAMES))
    def act_together(self, first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
        self._do(self._action(*first), self._action(*second))

    async def _action(self, where: str, action: str, name: str) -> None:
        node = self._nodes[where]
        running = next((each for each in node.containers if each.volume == name), None)
        match action:
            case "create":
                await node.create(name)
            case "remove":
                await node.remove(name)
            case "run":
                await node.run(name)
            case "look":
                await node.look(name)
            case "leave":
                await node.mount_and_leave(name)
            case "stop" | "copy" if running is not None:
                await self._with_container(node, action, running)

    async def _with_container(self, node: Node, action: str, running: Container) -> None:
        if action == "copy":
            await node.copy(running)
        elif running in node.containers:
            await node.stop(running)

    # What befalls them

    @rule(node=NODES, crossings=st.integers(1, 30))
    def die_in_what_comes_next(self, node: str, crossings: int) -> None:
        self._nodes[node].die_after(crossings)

    @rule(node=NODES)
    def kill_and_start(self, node: str) -> None:
        self._do(self._nodes[node].start())

    @rule(node=NODES)
    def start_if_dead(self, node: str) -> None:
        self._do(self._nodes[node].revive())

    @rule(node=NODES)
    def lose_power(self, node: str) -> None:
        self._do(self._nodes[node].lose_power())

    @rule(node=NODES, name=NAMES, lag=st.booleans())
    def lose_power_and_go_on_elsewhere(self, node: str, name: str, lag: bool) -> None:
        async def move() -> None:
            await self._nodes[node].lose_power()
            await self._nodes[node].pass_time()
            if lag:
                self._laboratory.lag = Lag(lookups=2, is_of_tags=True)
            await self._nodes["b" if node == "a" else "a"].run(name)

        self._do(move())

    @rule(node=NODES)
    def lose_mount_namespace(self, node: str) -> None:
        self._do(self._nodes[node].lose_mount_namespace())

    @rule(node=NODES)
    def lose_state(self, node: str) -> None:
        self._do(self._nodes[node].lose_state())

    @rule(node=NODES, containers_live=st.booleans())
    def restart_engine(self, node: str, containers_live: bool) -> None:
        self._nodes[node].restart_engine(containers_live=containers_live)

    @rule(is_away=st.booleans())
    def cloud_goes_or_comes_back(self, is_away: bool) -> None:
        self._laboratory.cloud.outage = BackendUnavailable("no route to the cloud") if is_away else None

    @rule(lookups=st.integers(1, 4), changes=st.integers(1, 6), is_of_tags=st.booleans())
    def next_lookups_see_the_past(self, lookups: int, changes: int, is_of_tags: bool) -> None:
        self._laboratory.lag = Lag(lookups, changes, is_of_tags)

    @rule(node=NODES, is_full=st.booleans())
    def state_disk_fills_up_or_is_cleared(self, node: str, is_full: bool) -> None:
        self._nodes[node].store.broken = is_full

    @rule(name=NAMES)
    def somebody_writes_on_a_blank_volume(self, name: str) -> None:
        volume = self._laboratory.volume(name)
        if volume is None or volume.holder or volume.filesystem.phase is not FilesystemPhase.PENDING:
            return
        device = device_of(volume.volume_id)
        self._laboratory.garbage.add(device)
        self._nodes["a"].host.disk(device).is_partial = True

    @rule(seconds=st.sampled_from([5, 70, 400]))
    def time_passes(self, seconds: int) -> None:
        self._clock.now_s += seconds
        if seconds > 60:
            self._laboratory.lag = Lag()  # no cloud lags that long
        self._do(*(node.pass_time() for node in self._nodes.values()))

    # What must hold

    @invariant()
    def nothing_forbidden_has_happened(self) -> None:
        found = self._laboratory.breaches + [
            f"{container} runs without its mount"
            for node in self._nodes.values()
            for container in node.without_mount()
        ]
        assert not found, found

    def teardown(self) -> None:
        try:
            self._settle()
            self.nothing_forbidden_has_happened()
            self._check_that_all_volumes_can_be_used()
            self.nothing_forbidden_has_happened()
        finally:
            for node in self._nodes.values():
                node.kill()
            self._loop.close()

    def _settle(self) -> None:
        """Everything works again and everybody leaves: nothing stays mounted or attached anywhere."""
        self._laboratory.cloud.outage, self._laboratory.lag = None, Lag()
        for node in self._nodes.values():
            node.store.broken = False
            node.die_after(None)
            self._do(node.revive())
            for container in list(node.containers):
                self._do(node.stop(container))
            self._do(node.look("v"))  # as dockerd does at its start, which shows that it was restarted
        for _ in range(self.ROUNDS):
            self._clock.now_s += 400
            for node in self._nodes.values():
                self._do(node.revive())
                self._do(node.pass_time())
        left = [line for node in self._nodes.values() for line in node.unsettled()]
        assert not left, left

    def _check_that_all_volumes_can_be_used(self) -> None:
        for volume in list(self._laboratory.cloud.volumes.values()):
            if device_of(volume.volume_id) in self._laboratory.garbage:
                continue
            for node in self._nodes.values():
                self._do(self._run_and_stop(node, volume.name))

    async def _run_and_stop(self, node: Node, name: str) -> None:
        assert await node.run(name), f"{name} cannot be mounted"
        await node.stop(node.containers[-1])
        await node.pass_time()
