"""Volumes keep their data when volplug becomes a managed plugin, and when it becomes a service again."""

import re
from pathlib import Path

import pytest

from tests.engine.pairs import MANAGED
from tests.engine.use import create, execute, inspect, refusal, run, start, volumes, wait_until_released
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import checked

pytestmark = MANAGED

_PAGE = (Path(__file__).parents[2] / "docs/install.md").read_text()
(_WRITE_DOWN,) = re.findall(r"^ +(docker volume ls -q .*\n.*> volumes\.sh)$", _PAGE, re.MULTILINE)
_LINK = Path("/run/docker/plugins/volplug:latest.sock")
_NAMES = ["db", "other"]
_REMEMBERED = {"team": 'the "web" team', "stage": "test"}
_MISMATCH = "provided volume driver does not match stored driver"


@pytest.fixture
def service(engine: Engine) -> VolplugProcess:
    """The service, with the state directory that the plugin has."""
    directory = engine.directory / "var-lib"
    directory.mkdir()
    return VolplugProcess(engine, state_dir=directory / "volplug")


@pytest.fixture
def plugin(engine: Engine, service: VolplugProcess) -> ManagedVolplug:
    """The plugin, not yet installed."""
    return ManagedVolplug(engine, host_dir=service.state_dir.parent)


def test_all_volumes_follow_from_one_form_to_the_other_and_back(
    engine: Engine, service: VolplugProcess, plugin: ManagedVolplug
) -> None:
    with service:
        labels = [f"--label={key}={value}" for key, value in _REMEMBERED.items()]
        for name in _NAMES:
            create(engine, name, *labels, "--opt=mkfs-opts=-L 'my data'")
            run(engine, "-v", f"{name}:/data", script=f"echo {name} >/data/file")
        known = _known(engine)
        _shell(engine, _WRITE_DOWN)
        plugin.install()
    engine.restart()
    plugin.start()
    assert volumes(engine) == _NAMES
    # Without its creation, Docker uses the name that it remembers.
    assert _MISMATCH in refusal(engine, "run", "--rm", "-v", "other:/data", "busybox:local", "true")

    plugin.stop()  # the way out that the page names
    engine.restart()
    plugin.start()
    _shell(engine, "sh volumes.sh")
    assert _known(engine) == known
    assert {inspect(engine, "volume", name)["Driver"] for name in _NAMES} == {"volplug:latest"}
    assert run(engine, "-v", "other:/data", script="cat /data/file") == "other\n"
    assert _shown_after_creation(engine, "volplug") == "volplug:latest"
    assert _shown_after_creation(engine, "volplug:latest") == "volplug:latest"
    start(engine, "user", "-v", "db:/data")
    assert execute(engine, "user", "cat /data/file") == "db\n"
    engine.docker("stop", "user")
    wait_until_released(engine, plugin)

    plugin.remove()
    engine.path(_LINK).symlink_to("volplug.sock")  # as packaging/systemd/volplug.socket does
    with service:
        engine.docker("start", "user")
        assert execute(engine, "user", "cat /data/file") == "db\n"
        engine.docker("rm", "--force", "user")
        assert _shown_after_creation(engine, "volplug:latest") == "volplug:latest"
        assert _known(engine) == known
        assert run(engine, "-v", "other:/data", script="cat /data/file") == "other\n"
        wait_until_released(engine, service)
        engine.docker("volume", "rm", *_NAMES)
    engine.path(_LINK).unlink()


def _shown_after_creation(engine: Engine, driver: str) -> str:
    """The driver that tools find, and compare with the one that they created the volume with."""
    engine.docker("volume", "create", f"--driver={driver}", "--opt=size=16MiB", "new")
    shown = inspect(engine, "volume", "new")
    assert shown["Options"] == {"size": "16MiB"}
    engine.docker("volume", "rm", "new")
    return str(shown["Driver"])


def _known(engine: Engine) -> dict[str, tuple[str, dict[str, str], dict[str, str]]]:
    """The id of each volume, and which labels and options Docker remembers of it."""
    shown = {name: inspect(engine, "volume", name) for name in volumes(engine)}
    return {name: (each["Status"]["id"], each["Labels"], each["Options"]) for name, each in shown.items()}


def _shell(engine: Engine, script: str) -> None:
    host = "DOCKER_HOST=unix:///run/docker.sock"
    checked(engine.run(["env", host, f"--chdir={engine.directory}", "sh", "-euc", script]))
