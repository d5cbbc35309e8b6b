"""Containers whose root is another user of the host: the directories of volplug are closed to it."""

from collections.abc import Iterator

import pytest

from tests.engine.pairs import ON_EACH, Pair
from tests.engine.use import create, execute, run, start, wait_until_released
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.managed import ManagedVolplug
from tests.lab.requirements import ENGINE

pytestmark = [*ENGINE, ON_EACH]

_FIRST_ID = 100000
_RANGE = dict.fromkeys(("/etc/subuid", "/etc/subgid"), f"nobody:{_FIRST_ID}:65536\n")


@pytest.fixture
def remapping_engine(clean_machine: None, pair: Pair) -> Iterator[Engine]:
    """An engine whose containers have user namespaces, so that their root is an ordinary user outside."""
    remap = ["--userns-remap=nobody:nogroup"]
    with Engine(system=pair.version.system(), extra_args=remap, files=_RANGE) as engine:
        engine.import_busybox()
        yield engine


def test_volumes_in_containers_with_user_namespaces(
    remapping_engine: Engine, pair: Pair, forks: ForkServer
) -> None:
    engine = remapping_engine
    owner = (f"--opt=uid={_FIRST_ID}", f"--opt=gid={_FIRST_ID}")
    with pair.volplug(engine, forks) as plugin:
        if isinstance(plugin, ManagedVolplug):
            remapped = engine.directory / "data" / f"{_FIRST_ID}.{_FIRST_ID}"
            assert plugin.plugin_dir.parent == remapped / "plugins"
        create(engine, "db")
        create(engine, "owned", *owner)
        # Docker gives a fresh volume the owner of the directory that the image has there.
        places = ("-v", "db:/data", "-v", "owned:/not-in-the-image")
        start(engine, "user", *places)
        for place in ("/data", "/not-in-the-image"):
            execute(engine, "user", f"echo kept >{place}/file")
            assert execute(engine, "user", f"stat -c %u:%g {place} {place}/file") == "0:0\n0:0\n"
        assert run(engine, *places, script="cat /data/file /not-in-the-image/file") == "kept\nkept\n"
        engine.docker("rm", "-f", "user")
        wait_until_released(engine, plugin)
        engine.docker("volume", "rm", "db", "owned")
