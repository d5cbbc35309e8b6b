"""Two hosts with a Docker Engine, a volplug and a zfs-fuse each; the first one has the pool ``tank``."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import cast

import pytest

from tests import pages
from tests.engine.sharing import left_empty
from tests.lab.fork_server import ForkServer
from tests.lab.host import Host, Hosts
from tests.lab.leftovers import settled_difference, snapshot
from tests.lab.zfs import ZfsFuse
from volplug.sizes import MIB

PAGE = "docs/drivers/zfs.md"
CONFIG = "/etc/volplug/config.toml"
POOL_BYTES = 256 * MIB
_FAILED = pytest.StashKey[str]()


@pytest.fixture(scope="package")
def hosts() -> Iterator[Hosts]:
    """The hosts, with the documented configuration; their volplugs were there before any ZFS was."""
    before = snapshot()
    with ForkServer() as forks, Hosts("a", "b", machine_of=forks.machine_of) as hosts:
        config = hosts.directory / "config.toml"
        config.write_text(pages.files(PAGE)[CONFIG])
        hosts.power_on({host.name: {"VOLPLUG_CONFIG": str(config)} for host in hosts})
        yield hosts
    assert settled_difference(before) == []


@pytest.fixture(scope="package")
def zfs(hosts: Hosts, request: pytest.FixtureRequest) -> Iterator[Mapping[str, ZfsFuse]]:
    """The ZFS of each host; `a` has the pool."""
    with ExitStack() as stack:
        found: dict[str, ZfsFuse] = {}
        for host in hosts:
            disks = hosts.directory / f"disks-{host.name}"
            disks.mkdir()
            found[host.name] = stack.enter_context(closing(ZfsFuse(disks, host.engine.namespaces)))
        found["a"].make_pool("tank", size_bytes=POOL_BYTES)
        yield found
        if request.config.stash.get(_FAILED, ""):
            for each in found.values():
                each.kill()


@pytest.fixture
def a(hosts: Hosts, zfs: Mapping[str, ZfsFuse], request: pytest.FixtureRequest) -> Iterator[Host]:
    """The host with the pool, empty after each test."""
    with ExitStack() as stack:
        stack.enter_context(left_empty(hosts["a"].engine, hosts["a"].volplug))
        yield hosts["a"]
        if request.config.stash.get(_FAILED, ""):
            stack.pop_all()  # nothing can be emptied without it


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Excuse a test in which zfs-fuse itself has failed, and all after it; what is wrong otherwise fails."""
    stash = pyfuncitem.config.stash
    if stash.get(_FAILED, ""):
        pytest.xfail(stash[_FAILED])
    try:
        return (yield)
    except Exception as error:
        hosts, zfs = pyfuncitem.funcargs["hosts"], pyfuncitem.funcargs["zfs"]
        stash[_FAILED] = _failure(cast(Hosts, hosts), cast(Mapping[str, ZfsFuse], zfs))
        if stash[_FAILED]:
            pytest.xfail(f"{stash[_FAILED]}: {error}")
        raise


def _failure(hosts: Hosts, zfs: Mapping[str, ZfsFuse]) -> str:
    for host in hosts:
        if containers := host.docker("ps", "--all", "--quiet").split():
            host.docker("rm", "--force", *containers)
    return " ".join(filter(None, (each.failure("tank/volplug") for each in zfs.values())))
