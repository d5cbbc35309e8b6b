"""The README's commands for Docker do what it says."""

from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug
from tests.lab.requirements import PLUGIN
from tests.test_readme import DOCKER

pytestmark = PLUGIN


def test_the_docker_commands_of_the_readme_work_as_they_stand(engine: Engine) -> None:
    engine.import_busybox("busybox")
    plugin = ManagedVolplug(engine).install()
    said = {command: engine.run(["sh", "-c", command], check=True).stdout for command in DOCKER}
    assert plugin.running
    assert said["docker run --rm -v todolist:/data busybox cat /data/greeting"] == "hello\n"
    assert '"Driver": "volplug:latest"' in said["docker volume inspect todolist"]
