"""Actions of users and faults of machines, in any order; invariants during and after them."""

import asyncio
import os
import random
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.volumes.world import Clock
from tests.walks.ground import Container, Ground
from tests.walks.killable import Killed
from tests.walks.node import Node
from volplug.volumes.operations import ApiVerb

NODES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["v", "v", "w"])
WALKS = int(os.environ.get("VOLPLUG_WALKS", "0"))
ACTIONS = st.sampled_from(["create", "remove", "run", "stop", "copy", "leave", "look"])


def walk_settings(walks: int, steps: int, *phases: Phase) -> settings:
    """The same walks each time, or `VOLPLUG_WALKS` new ones."""
    return settings(
        max_examples=WALKS or walks,
        stateful_step_count=steps,
        derandomize=not WALKS,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


class Walk(RuleBasedStateMachine):
    """A walk of machines a and b and volumes v and w; both of either may be the same one."""

    ROUNDS: ClassVar[int] = 30

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._note_exception)
        self.clock = Clock()
        self.breaches: list[str] = []
        self.nodes = {
            name: Node(ground, self.clock, self.breaches.append) for name, ground in self.grounds().items()
        }
        for node in self.nodes.values():
            self.do(node.start())

    def grounds(self) -> Mapping[str, Ground]:
        """Return the environments of the machines."""
        raise NotImplementedError

    def node(self, name: str) -> Node:
        """Return the machine of a name, or the only one."""
        return self.nodes.get(name) or self.nodes["a"]

    def volume(self, name: str) -> str:
        """Return the name of a volume, or of the only one."""
        return name

    def do(self, *actions: Coroutine[Any, Any, object]) -> None:
        """Run actions at the same time and wait for their end."""

        async def together() -> None:
            results = await asyncio.gather(*actions, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, Killed):
                    raise result

        self.loop.run_until_complete(together())

    def _note_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.breaches.append(f"{context.get('message')}: {error!r}")

    # Actions of users

    @rule(node=NODES, action=ACTIONS, name=NAMES)
    def act(self, node: str, action: str, name: str) -> None:
        self.do(self._action(node, action, name))

    @rule(node=NODES, name=NAMES)
    def create_and_run(self, node: str, name: str) -> None:
        async def both() -> None:
            await self.node(node).create(self.volume(name))
            await self.node(node).run(self.volume(name))

        self.do(both())

    @rule(
        node=NODES,
        verb=st.sampled_from(ApiVerb),
        name=NAMES,
        is_run_first=st.booleans(),
        is_cancelled=st.booleans(),
        beside=st.tuples(NODES, ACTIONS, NAMES),
    )
    def act_by_api(
        self,
        node: str,
        verb: ApiVerb,
        name: str,
        is_run_first: bool,
        is_cancelled: bool,
        beside: tuple[str, str, str],
    ) -> None:
        name = self.volume(name)

        async def act() -> None:
            if is_run_first:
                await self.node(node).create(name)
                await self.node(node).run(name)
            await self.node(node).ask_api(verb, name)
            if is_cancelled:
                self.node(node).cancel(name)

        self.do(act(), self._action(*beside))
        self.do(self.node(node).finish())  # a deletion that tries a release mounts again what is in use

    @rule(first=st.tuples(NODES, ACTIONS, NAMES), second=st.tuples(NODES, ACTIONS, NAMES))
    def act_together(self, first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
        self.do(self._action(*first), self._action(*second))

    async def _action(self, where: str, action: str, name: str) -> None:
        node, name = self.node(where), self.volume(name)
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
            case "copy" if running is not None:
                await node.copy(running)
            case "stop" if running is not None:
                await self._stop(node, running)

    async def _stop(self, node: Node, running: Container) -> None:
        if running in node.containers:  # and not stopped by another action at the same time
            await node.stop(running)

    # Faults

    @rule(node=NODES, crossings=st.integers(1, 30))
    def die_in_the_next_actions(self, node: str, crossings: int) -> None:
        self.node(node).die_after(crossings)

    @rule(node=NODES)
    def kill_and_start(self, node: str) -> None:
        self.do(self.node(node).start())

    @rule(node=NODES)
    def start_if_dead(self, node: str) -> None:
        self.do(self.node(node).revive())

    @rule(node=NODES)
    def lose_power(self, node: str) -> None:
        self.do(self.node(node).lose_power())

    @rule(node=NODES)
    def lose_state(self, node: str) -> None:
        self.do(self.node(node).lose_state(None))

    @rule(node=NODES, seed=st.integers(0, 10**6))
    def damage_state(self, node: str, seed: int) -> None:
        self.do(self.node(node).lose_state(random.Random(seed)))  # noqa: S311  # repeatable

    @rule(node=NODES, containers_live=st.booleans())
    def restart_engine(self, node: str, containers_live: bool) -> None:
        self.node(node).restart_engine(containers_live=containers_live)

    @rule(seconds=st.sampled_from([5, 70, 400]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now_s += seconds
        if seconds > 60:
            self.end_stale_lookups()
        self.do(*(node.pass_time() for node in self.nodes.values()))

    def end_stale_lookups(self) -> None:
        """End the stale reads, which no backend serves for a minute."""

    # Invariants

    @invariant()
    def no_promise_is_broken(self) -> None:
        found = self.breaches + [
            f"{container} runs without its mount"
            for node in self.nodes.values()
            for container in self.without_mount(node)
        ]
        assert not found, found

    def without_mount(self, node: Node) -> list[Container]:
        """Return the containers that lack their mount where they have to have it."""
        return node.without_mount()

    def teardown(self) -> None:
        try:
            self.everything_works_again()
            self.settle()
            self.no_promise_is_broken()
            self._check_that_all_volumes_can_be_used()
            self.no_promise_is_broken()
        finally:
            for node in self.nodes.values():
                node.kill()
            self.closing()
            self.loop.close()

    def closing(self) -> None:
        """Close what the loop has to close."""

    def everything_works_again(self) -> None:
        """End all faults; no process dies any more."""
        for node in self.nodes.values():
            node.die_after(None)

    def settle(self) -> None:
        """Stop all containers: nothing stays mounted or attached anywhere."""
        for node in self.nodes.values():
            self.do(node.revive())
            for container in list(node.containers):
                self.do(node.stop(container))
            self.do(node.finish())
            self.do(node.look("v"))  # as dockerd does at its start, which shows that it was restarted
        for _ in range(self.ROUNDS):
            self.clock.now_s += 400
            for node in self.nodes.values():
                self.do(node.pass_time())
                self.do(node.finish())
        left = [line for node in self.nodes.values() for line in node.unsettled()]
        assert not left, left

    def usable(self) -> list[str]:
        """Return the names of the volumes that can be mounted when everything works."""
        raise NotImplementedError

    def _check_that_all_volumes_can_be_used(self) -> None:
        for name in self.usable():
            for node in self.nodes.values():
                self.do(self._run_and_stop(node, name))

    async def _run_and_stop(self, node: Node, name: str) -> None:
        assert await node.run(name), f"{name} cannot be mounted"
        await node.stop(node.containers[-1])
        await node.pass_time()
