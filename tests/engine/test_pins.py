"""A container that binds / stays through the whole life of a volume, and through restarts of volplug."""

import pytest

from tests.engine.pairs import AS_SERVICE
from tests.engine.use import create, execute, run, start, wait_until_released
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.served.volumes import image_of, mount_of

pytestmark = [*ENGINE, AS_SERVICE, pytest.mark.faults]


def _pin(engine: Engine, bind: str) -> None:
    start(engine, "pin", "-v", bind)


# Of a shared / Docker binds a slave, where mounts come and go; of a private one a copy of what is there.
@pytest.mark.parametrize(
    ("root", "bind", "is_there_before"),
    [
        pytest.param("rprivate", "/:/rootfs", True, id="private-before", marks=pytest.mark.slow),
        pytest.param("rprivate", "/:/rootfs", False, id="private-under-the-mount"),
        pytest.param("rshared", "/:/rootfs", True, id="shared-before"),
        pytest.param("rshared", "/:/rootfs", False, id="shared-under-the-mount", marks=pytest.mark.slow),
        pytest.param("rshared", "/:/rootfs:rslave", True, id="rslave-before", marks=pytest.mark.slow),
        pytest.param(
            "rshared", "/:/rootfs:rslave", False, id="rslave-under-the-mount", marks=pytest.mark.slow
        ),
    ],
)
def test_a_bind_of_the_root_keeps_nothing_through_create_unmount_remove_and_restarts(
    own_empty_engine: Engine, own_volplug: VolplugProcess, root: str, bind: str, is_there_before: bool
) -> None:
    engine, volplug = own_empty_engine, own_volplug
    engine.run(["mount", f"--make-{root}", "/"], check=True)
    if is_there_before:
        _pin(engine, bind)
    create(engine, "db")
    start(engine, "user", "-v", "db:/volume")
    execute(engine, "user", "echo kept >/volume/file")
    if not is_there_before:
        _pin(engine, bind)
    seen = f"/rootfs{mount_of(volplug, 'db')}/data/file"
    is_seen = root == "rshared" or not is_there_before
    assert execute(engine, "pin", f"test -e {seen} && echo yes || echo no").strip() == (
        "yes" if is_seen else "no"
    )
    volplug.kill()
    volplug.start()
    execute(engine, "user", "echo more >>/volume/file")
    engine.docker("rm", "-f", "user")
    wait_until_released(engine, volplug)
    assert run(engine, "-v", "db:/volume", script="cat /volume/file") == "kept\nmore\n"
    volplug.restart()
    assert run(engine, "-v", "db:/volume", script="cat /volume/file") == "kept\nmore\n"
    wait_until_released(engine, volplug)
    engine.docker("volume", "rm", "db")
    assert not image_of(volplug, "db").exists()
    create(engine, "db")
    assert run(engine, "-v", "db:/volume", script="ls /volume") == ""
    wait_until_released(engine, volplug)
    engine.docker("volume", "rm", "db")
    engine.docker("rm", "-f", "pin")
