"""`docker plugin upgrade` from a previous build, from a registry, under running containers."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import volplug
from tests.engine.pairs import MANAGED
from tests.engine.use import create, inspect, refusal, run, volumes, wait_until_released
from tests.lab import checker, loops
from tests.lab.built import built_plugin
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug, create_plugin
from tests.lab.operator import Operator
from tests.lab.registry import Registry

pytestmark = MANAGED

_PREVIOUS = "0.0.9"
# What the previous version does not have: a setting, and a mount.
_NEW_SETTING = "VOLPLUG_MOUNT_GRACE_S"
_NEW_MOUNT = "engine"


@pytest.fixture(scope="module")
def registry_engine(own_engine: Engine) -> Iterator[Engine]:
    """An engine that reaches both versions in a registry, and whose /var/lib is its own."""
    engine = own_engine
    host_dir = engine.directory / "var-lib"
    host_dir.mkdir()
    engine.run(["mount", "--bind", str(host_dir), "/var/lib"], check=True)
    rootfs = built_plugin().directory / "rootfs"
    common = {rootfs / name: f"/{name}" for name in ("usr", "opt")}
    with Registry(engine):
        for source in (_current(engine), _previous(engine)):
            reference = _reference(source.name)
            create_plugin(engine, reference, source, large=(), binds=common)
            engine.docker("plugin", "push", reference)
            engine.docker("plugin", "rm", reference)
        yield engine


def _reference(version: str) -> str:
    return f"{Registry.address}/volplug:{version}"


def _current(engine: Engine) -> Path:
    """The differences of the versions: their config, and volplug itself, which they have in /code."""
    built, target = built_plugin().directory, engine.directory / volplug.__version__
    (package,) = built.glob("rootfs/opt/volplug/lib/python3*/site-packages/volplug")
    (target / "rootfs" / "code").mkdir(parents=True)
    subprocess.run(["cp", "-a", str(package), str(target / "rootfs" / "code")], check=True)
    links = [str(path) for path in (built / "rootfs").iterdir() if path.is_symlink()]  # such as /lib
    subprocess.run(["cp", "-a", str(built / "rootfs" / "etc"), *links, str(target / "rootfs")], check=True)
    config = json.loads((built / "config.json").read_text())
    config["env"].append({"name": "PYTHONPATH", "value": "/code"})
    (target / "config.json").write_text(json.dumps(config))
    return target


def _previous(engine: Engine) -> Path:
    """The current version with another number, and one setting and one mount less."""
    target = engine.directory / _PREVIOUS
    subprocess.run(["cp", "-a", str(engine.directory / volplug.__version__), str(target)], check=True)
    module = target / "rootfs/code/volplug/__init__.py"
    changed = module.read_text().replace(volplug.__version__, _PREVIOUS)
    assert changed != module.read_text()
    module.write_text(changed)
    config = json.loads((target / "config.json").read_text())
    config["env"] = [variable for variable in config["env"] if variable["name"] != _NEW_SETTING]
    config["mounts"] = [mount for mount in config["mounts"] if mount["name"] != _NEW_MOUNT]
    (target / "config.json").write_text(json.dumps(config))
    return target


def _versions(plugin: ManagedVolplug) -> list[str]:
    """The versions that have served, in order."""
    return re.findall(r"event=ready version=(\S+)", plugin.log_text)


def _sources(plugin: ManagedVolplug) -> dict[str, str]:
    # These are the effective ones; the settings still show the old sources.
    mounts: list[dict[str, Any]] = plugin.inspect()["Config"]["Mounts"]
    return {mount["Name"]: mount["Source"] for mount in mounts}


def test_an_upgrade_under_running_containers(registry_engine: Engine) -> None:
    engine = registry_engine
    with ManagedVolplug(engine, host_dir=Path("/var/lib"), reference=_reference(_PREVIOUS)) as plugin:
        create(engine, "db", "--opt=size=64MiB")
        create(engine, "idle")
        run(engine, "-v", "idle:/data", script="echo kept >/data/file")
        known = {name: inspect(engine, "volume", name)["Status"]["id"] for name in volumes(engine)}
        records = checker.start(engine, "db")
        attached = [device.name for device in loops.attached_below(plugin.state_dir)]
        assert _NEW_MOUNT not in _sources(plugin)

        plugin.upgrade(_reference(volplug.__version__))
        records.await_progress()
        plugin.mount_root.chmod(0o755)  # as early versions left it
        plugin.start()
        assert plugin.mount_root.stat().st_mode & 0o777 == 0o700
        assert _versions(plugin) == [_PREVIOUS, volplug.__version__]
        assert _sources(plugin)[_NEW_MOUNT] == "/run"
        records.await_progress()
        records.verify()
        assert [device.name for device in loops.attached_below(plugin.state_dir)] == attached
        assert "volume is in use" in refusal(engine, "volume", "rm", "db")
        assert run(engine, "-v", "idle:/data", script="cat /data/file") == "kept\n"
        assert {name: inspect(engine, "volume", name)["Status"]["id"] for name in volumes(engine)} == known
        create(engine, "new")
        run(engine, "-v", "new:/data", script="echo new >/data/file")

        records.stop()
        wait_until_released(engine, plugin)
        records.verify()
        engine.docker("volume", "rm", "db", "idle", "new")


def test_an_upgrade_keeps_variables_and_reverts_the_state_directory(registry_engine: Engine) -> None:
    engine = registry_engine
    plugin = ManagedVolplug(engine, host_dir=engine.directory / "disk", reference=_reference(_PREVIOUS))
    plugin.install().set("VOLPLUG_DEFAULT_SIZE=32MiB")
    with plugin:
        create(engine, "db", "--opt=size=64MiB")
        records = checker.start(engine, "db")

        plugin.upgrade(_reference(volplug.__version__))
        variables = plugin.inspect()["Settings"]["Env"]
        assert "VOLPLUG_DEFAULT_SIZE=32MiB" in variables
        assert not any(variable.startswith(_NEW_SETTING) for variable in variables)
        # There it would refuse to serve, as test_managed.py shows for another state directory.
        assert _sources(plugin)["state"] == "/var/lib"
        plugin.set(f"state.source={plugin.host_dir}")
        plugin.start()
        records.await_progress()
        records.verify()
        records.stop()
        wait_until_released(engine, plugin)
        engine.docker("volume", "rm", "db")


def test_volplug_gets_the_name_of_another_plugin_and_its_volumes_in_docker(
    registry_engine: Engine, tmp_path: Path
) -> None:
    """As in docs/from-rexray.md; an earlier version stands for REX-Ray, with loop volumes."""
    engine = registry_engine
    with ManagedVolplug(
        engine, name="rexray/ebs", host_dir=Path("/var/lib"), reference=_reference(_PREVIOUS)
    ) as plugin:
        engine.docker("volume", "create", "--driver=rexray/ebs", "--opt=size=16MiB", "db")
        run(engine, "-v", "db:/data", script="echo kept >/data/file")
        names = {
            "registry.example.com/volplug:0.1.0-amd64": _reference(volplug.__version__),
            "=ebs ": "=loop ",
        }
        Operator(engine.run, names, tmp_path).does("docs/from-rexray.md", "Keep the driver's name", 0)
        assert plugin.running
        assert inspect(engine, "volume", "db")["Driver"] == "rexray/ebs:latest"
        assert run(engine, "-v", "db:/data", script="cat /data/file") == "kept\n"
        run(engine, "--volume-driver=rexray/ebs", "-v", "other:/data", script="touch /data/file")
        engine.docker("volume", "rm", "db", "other")
