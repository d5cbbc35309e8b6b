"""Containers that see the whole machine, as monitoring agents do, and those that use what they see."""

import platform
from collections.abc import Callable

import pytest

from tests.engine.use import create, execute, inspect, refusal, run, start, wait_until_released
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.served.volumes import image_of, mount_of

pytestmark = ENGINE

_REMEDY = "Stop what uses it; volplug goes on by itself once it is free."


# How / is mounted: systemd makes it shared, without systemd it is private. Docker gives containers a
# slave of a shared one, where our unmounts arrive, and a copy of a private one, where they do not.
_PRIVATE, _SHARED = "rprivate", "rshared"


def _mount_root(engine: Engine, propagation: str) -> None:
    engine.run(["mount", f"--make-{propagation}", "/"], check=True)


@pytest.mark.parametrize("root", [_PRIVATE, _SHARED])
def test_a_container_that_only_looks_on_keeps_no_volume(
    empty_engine: Engine, shared_volplug: VolplugProcess, root: str
) -> None:
    _mount_root(empty_engine, root)
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/volume")
    execute(empty_engine, "user", "echo kept >/volume/file")
    start(empty_engine, "onlooker", "-v", "/:/rootfs")
    seen = f"/rootfs{mount_of(shared_volplug, 'db')}/data/file"
    assert execute(empty_engine, "onlooker", f"cat {seen}") == "kept\n"
    empty_engine.docker("rm", "-f", "user")
    wait_until_released(empty_engine, shared_volplug)
    execute(empty_engine, "onlooker", f"test ! -e {seen}")
    assert run(empty_engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("volume", "rm", "db")
    assert not image_of(shared_volplug, "db").exists()
    empty_engine.docker("rm", "-f", "onlooker")


def _reader(path: str) -> tuple[str, str]:
    return "/:/rootfs", f"exec tail -f /rootfs{path}/file"


def _binder(path: str) -> tuple[str, str]:
    return f"{path}:/own", "exec sleep 1000"


@pytest.mark.parametrize(
    ("root", "use"),
    [(_PRIVATE, _reader), (_SHARED, _reader), (_SHARED, _binder)],
    ids=["open-file-private", "open-file-shared", "own-bind"],
)
def test_a_container_that_uses_what_it_sees_keeps_the_volume_until_it_has_gone(
    empty_engine: Engine,
    shared_volplug: VolplugProcess,
    root: str,
    use: Callable[[str], tuple[str, str]],
) -> None:
    _mount_root(empty_engine, root)
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/volume")
    execute(empty_engine, "user", "echo kept >/volume/file")
    bind, script = use(f"{mount_of(shared_volplug, 'db')}/data")
    start(empty_engine, "intruder", "-v", bind, script=script)
    intruder = inspect(empty_engine, "container", "intruder")["Id"][:12]

    empty_engine.docker("rm", "-f", "user")
    volume_id = inspect(empty_engine, "volume", "db")["Status"]["id"]
    assert refusal(empty_engine, "volume", "rm", "db") == (
        f'remove db: remove "db" (loop {volume_id}, node {platform.node()}): '
        f"still in use by container {intruder}. {_REMEDY}"
    )
    assert image_of(shared_volplug, "db").exists()
    status = inspect(empty_engine, "volume", "db")["Status"]
    assert (status["mountCount"], status["desired"]) == (0, "detached")
    assert run(empty_engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"

    empty_engine.docker("rm", "-f", "intruder")
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("volume", "rm", "db")
