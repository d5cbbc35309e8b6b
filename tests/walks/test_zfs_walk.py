"""One real host with a ZFS pool under random events, and what a person does with `zfs` meanwhile."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import Phase, reject
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.zfs import own_or_private_zfs
from tests.walks.ground import Container, Ground
from tests.walks.node import Node
from tests.walks.walk import NAMES, WALKS, Walk, walk_settings
from tests.walks.zfs_ground import ZfsGround
from volplug.sizes import MIB

pytestmark = ZFS

_BY_HAND = (ZfsGround.set_quota, ZfsGround.make_snapshot, ZfsGround.destroy_snapshot)


class ZfsWalk(Walk):
    """One host."""

    ROUNDS = 5
    below: ClassVar[Path]

    def grounds(self) -> Mapping[str, Ground]:
        self._is_zfs_sound = False
        self._stack = ExitStack()
        pool = self._stack.enter_context(own_or_private_zfs()).make_pool("walk", size_bytes=256 * MIB)
        directory = self._stack.enter_context(TemporaryDirectory(prefix="walk-", dir=self.below))
        self._ground = ZfsGround(Path(directory), pool)
        return {"a": self._ground}

    def usable(self) -> list[str]:
        return self._ground.volumes()

    @rule(name=NAMES, action=st.sampled_from(_BY_HAND))
    def a_person_uses_zfs(self, name: str, action: Callable[[ZfsGround, str], None]) -> None:
        action(self._ground, self.volume(name))

    @invariant()
    def no_snapshot_is_lost(self) -> None:
        lost = self._ground.snapshots and self._ground.lost_snapshots()
        assert not lost, lost

    def closing(self) -> None:
        with self._stack:
            self.do(self._ground.close())
            self._ground.lose_power()
            self._is_zfs_sound = self._ground.destroy()

    # Exceptions of zfs-fuse

    def volume(self, name: str) -> str:
        """Use one: a mount that begins while another ends often leaves its dataset busy for good."""
        return name if HAS_OPENZFS else "v"

    def without_mount(self, node: Node) -> list[Container]:
        """Excuse all: what a trial release found in use is not mounted again before its container ends."""
        return super().without_mount(node) if HAS_OPENZFS else []

    def teardown(self) -> None:
        """Drop a walk in which the daemon has died, or keeps a dataset busy that nothing uses any more.

        It does so after some dozens of mounts, by bare commands, too.
        """
        try:
            super().teardown()
        finally:
            if not self._is_zfs_sound and not HAS_OPENZFS:
                reject()


@pytest.mark.faults
@pytest.mark.timeout(240 + 10 * WALKS)
def test_a_host_with_a_pool_keeps_every_promise_under_random_events(tmp_path: Path) -> None:
    class HereWalk(ZfsWalk):
        below = tmp_path

    run_state_machine_as_test(HereWalk, settings=walk_settings(7, 25, Phase.generate))
