"""Two machines on one cloud in memory, with the events that are only possible there."""

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.walks.ground import Ground, MemoryGround
from tests.walks.laboratory import UNCLAIMED, Laboratory, StaleLookups, WatchedFilesystemDriver
from tests.walks.walk import NAMES, NODES, Walk
from volplug.errors import BackendUnavailable
from volplug.models import FilesystemPhase
from volplug.testing.memory import device_of


class MemoryWalk(Walk):
    """Two hosts on one cloud."""

    def grounds(self) -> Mapping[str, Ground]:
        self._laboratory = Laboratory(breaches=self.breaches)
        self._grounds = {name: MemoryGround(self._laboratory, name) for name in ("a", "b")}
        return self._grounds

    @rule(node=NODES, name=NAMES, stale=st.booleans())
    def lose_power_and_continue_elsewhere(self, node: str, name: str, stale: bool) -> None:
        async def move() -> None:
            await self.node(node).lose_power()
            await self.node(node).pass_time()
            if stale:
                self._laboratory.stale = StaleLookups(lookups=2, is_of_tags=True)
            await self.node("b" if node == "a" else "a").run(name)

        self.do(move())

    @rule(node=NODES, name=NAMES, stale=st.booleans())
    def stop_and_be_taken_over(self, node: str, name: str, stale: bool) -> None:
        """The cloud proves the machine stopped; it is back after another may have taken its volume."""

        async def move() -> None:
            self.node(node).power_off()
            self._laboratory.cloud.dead_nodes.add(node)
            if stale:
                self._laboratory.stale = StaleLookups(lookups=2)
            await self.node("b" if node == "a" else "a").run(name)
            self._laboratory.cloud.dead_nodes.discard(node)
            await self.node(node).start()

        self.do(move())

    @rule(node=NODES)
    def lose_mount_namespace(self, node: str) -> None:
        """As `docker plugin disable -f` and enable: our mounts are gone, containers continue."""
        self.node(node).kill()
        self._grounds[node].kernel.mounts.clear()
        self.do(self.node(node).start())

    @rule(is_away=st.booleans())
    def cloud_outage_begins_or_ends(self, is_away: bool) -> None:
        self._laboratory.cloud.outage = BackendUnavailable("no route to the cloud") if is_away else None

    @rule(lookups=st.integers(1, 4), changes=st.integers(1, 6), is_of_tags=st.booleans())
    def next_lookups_are_stale(self, lookups: int, changes: int, is_of_tags: bool) -> None:
        self._laboratory.stale = StaleLookups(lookups, changes, is_of_tags)

    @rule(node=NODES, is_full=st.booleans())
    def state_disk_fills_up_or_is_cleared(self, node: str, is_full: bool) -> None:
        self._grounds[node].store.broken = is_full

    @rule(name=NAMES)
    def another_program_writes_on_a_blank_volume(self, name: str) -> None:
        volume = self._laboratory.volume(name)
        if volume is None or volume.holder or volume.filesystem.phase is not FilesystemPhase.PENDING:
            return
        device = device_of(volume.volume_id)
        self._laboratory.garbage.add(device)
        self._grounds["a"].kernel.disk(device).foreign = UNCLAIMED

    def end_stale_lookups(self) -> None:
        self._laboratory.stale = StaleLookups()

    def everything_works_again(self) -> None:
        super().everything_works_again()
        self._laboratory.cloud.outage, self._laboratory.stale = None, StaleLookups()
        for ground in self._grounds.values():
            ground.store.broken = False

    def usable(self) -> list[str]:
        return [
            volume.name
            for volume in self._laboratory.cloud.volumes.values()
            if device_of(volume.volume_id) not in self._laboratory.garbage
        ]


class FilesystemWalk(MemoryWalk):
    """The same where volumes are filesystems without devices."""

    def grounds(self) -> Mapping[str, Ground]:
        found = super().grounds()
        for name, ground in found.items():
            ground.driver = WatchedFilesystemDriver(self._laboratory, name)
        return found
