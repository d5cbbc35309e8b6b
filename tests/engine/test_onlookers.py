"""Containers that see the whole machine, as monitoring agents do, and those that use its mounts."""

import platform
from collections.abc import Callable

import pytest

from tests.engine.pairs import AS_SERVICE
from tests.engine.use import create, execute, inspect, refusal, run, start, wait_until_released
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.served.volumes import image_of, mount_of

pytestmark = [*ENGINE, AS_SERVICE]

_REMEDY = "Stop what uses it; volplug retries until it is free."


# How / is mounted: systemd makes it shared, without systemd it is private. Docker gives containers a
# slave of a shared one, where our unmounts arrive, and a copy of a private one, where they do not.
_PRIVATE, _SHARED = "rprivate", "rshared"


def _mount_root(engine: Engine, propagation: str) -> None:
    engine.run(["mount", f"--make-{propagation}", "/"], check=True)


@pytest.mark.parametrize("root", [_PRIVATE, _SHARED])
def test_a_container_that_only_sees_the_mounts_keeps_no_volume(
    own_empty_engine: Engine, own_volplug: VolplugProcess, root: str
) -> None:
    _mount_root(own_empty_engine, root)
    create(own_empty_engine, "db")
    start(own_empty_engine, "user", "-v", "db:/volume")
    execute(own_empty_engine, "user", "echo kept >/volume/file")
    start(own_empty_engine, "onlooker", "-v", "/:/rootfs")
    seen = f"/rootfs{mount_of(own_volplug, 'db')}/data/file"
    assert execute(own_empty_engine, "onlooker", f"cat {seen}") == "kept\n"
    own_empty_engine.docker("rm", "-f", "user")
    wait_until_released(own_empty_engine, own_volplug)
    execute(own_empty_engine, "onlooker", f"test ! -e {seen}")
    assert run(own_empty_engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"
    wait_until_released(own_empty_engine, own_volplug)
    own_empty_engine.docker("volume", "rm", "db")
    assert not image_of(own_volplug, "db").exists()
    own_empty_engine.docker("rm", "-f", "onlooker")


def _reader(path: str) -> tuple[str, str]:
    return "/:/rootfs", f"exec tail -f /rootfs{path}/file"


def _binder(path: str) -> tuple[str, str]:
    return f"{path}:/own", "exec sleep 1000"


@pytest.mark.parametrize(
    ("root", "use"),
    [
        pytest.param(_PRIVATE, _reader, id="open-file-private"),
        pytest.param(_SHARED, _reader, id="open-file-shared"),
        # Shown by a process in a mount namespace of its own in tests/served/test_holders.py.
        pytest.param(_SHARED, _binder, id="own-bind", marks=pytest.mark.slow),
    ],
)
def test_a_container_that_uses_a_mount_that_it_sees_keeps_the_volume_until_it_ends(
    own_empty_engine: Engine,
    own_volplug: VolplugProcess,
    root: str,
    use: Callable[[str], tuple[str, str]],
) -> None:
    _mount_root(own_empty_engine, root)
    create(own_empty_engine, "db")
    start(own_empty_engine, "user", "-v", "db:/volume")
    execute(own_empty_engine, "user", "echo kept >/volume/file")
    bind, script = use(f"{mount_of(own_volplug, 'db')}/data")
    start(own_empty_engine, "intruder", "-v", bind, script=script)
    intruder = inspect(own_empty_engine, "container", "intruder")["Id"][:12]

    own_empty_engine.docker("rm", "-f", "user")
    volume_id = inspect(own_empty_engine, "volume", "db")["Status"]["id"]
    assert refusal(own_empty_engine, "volume", "rm", "db") == (
        f"remove db: VolumeDriver.Remove: the volume is still in use by container {intruder} "
        f'[remove "db", loop {volume_id}, node {platform.node()}]. {_REMEDY}'
    )
    assert image_of(own_volplug, "db").exists()
    status = inspect(own_empty_engine, "volume", "db")["Status"]
    assert (status["mountCount"], status["desired"]) == (0, "detached")
    assert run(own_empty_engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"

    own_empty_engine.docker("rm", "-f", "intruder")
    wait_until_released(own_empty_engine, own_volplug)
    own_empty_engine.docker("volume", "rm", "db")
