"""The README's commands for Docker do what it says."""

from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.test_readme import DOCKER

pytestmark = ENGINE


def test_the_docker_commands_of_the_readme_work_as_they_stand(
    engine: Engine, volplug: VolplugProcess
) -> None:
    engine.import_busybox("busybox")
    said = {command: engine.run(["sh", "-c", command], check=True).stdout for command in DOCKER}
    assert said["docker run --rm -v todolist:/data busybox cat /data/greeting"] == "hello\n"
    assert '"Driver": "volplug"' in said["docker volume inspect todolist"]
