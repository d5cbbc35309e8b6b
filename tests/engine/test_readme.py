"""The README's commands for Docker work as described."""

import pytest

from tests.engine.pairs import MANAGED
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug
from tests.test_readme import DOCKER

pytestmark = MANAGED


# Complete: Docker packs and unpacks all of its files.
@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "whole"])
def test_the_docker_commands_of_the_readme_work_as_written(engine: Engine, is_whole: bool) -> None:
    engine.import_busybox("busybox")
    plugin = ManagedVolplug(engine, is_whole=is_whole).install()
    outputs = {command: engine.run(["sh", "-c", command], check=True).stdout for command in DOCKER}
    assert plugin.running
    assert outputs["docker run --rm -v todolist:/data busybox cat /data/greeting"] == "hello\n"
    assert '"Driver": "volplug:latest"' in outputs["docker volume inspect todolist"]
