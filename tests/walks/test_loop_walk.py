"""One real host with loop devices under random events."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.walks.ground import Ground
from tests.walks.loop_ground import LoopGround
from tests.walks.walk import WALKS, Walk, walk_settings


class LoopWalk(Walk):
    """One host."""

    ROUNDS = 5
    below: ClassVar[Path]

    def grounds(self) -> Mapping[str, Ground]:
        self._directory = tempfile.TemporaryDirectory(prefix="walk-", dir=self.below)
        self._ground = LoopGround(Path(self._directory.name))
        return {"a": self._ground}

    def usable(self) -> list[str]:
        return self._ground.volumes()

    @invariant()
    def no_image_is_attached_twice(self) -> None:
        twice = self._ground.attached_twice()
        assert not twice, twice

    def closing(self) -> None:
        self.do(self._ground.close())
        self._ground.lose_power()
        self._directory.cleanup()


@pytest.mark.loop
@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.timeout(240 + WALKS)
def test_a_host_with_loop_devices_keeps_every_promise_under_random_events(tmp_path: Path) -> None:
    class HereWalk(LoopWalk):
        below = tmp_path

    run_state_machine_as_test(HereWalk, settings=walk_settings(30, 25, Phase.generate))
