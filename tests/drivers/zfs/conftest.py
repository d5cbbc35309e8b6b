"""A real pool for the tests of a module."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.lab.lane import new_directory
from tests.lab.requirements import HAS_OPENZFS
from tests.lab.zfs import HostZfs, ZfsFuse, ZfsPool, run_program
from volplug.drivers.zfs.capabilities import Capabilities, probe
from volplug.drivers.zfs.tools import ZfsTools
from volplug.sizes import MIB


@pytest.fixture(scope="module")
def zfs() -> Iterator[HostZfs]:
    directory = new_directory()
    with contextlib.closing(HostZfs(directory) if HAS_OPENZFS else ZfsFuse(directory)) as zfs:
        yield zfs
    directory.rmdir()


@pytest.fixture(scope="module")
def pool(zfs: HostZfs) -> ZfsPool:
    return zfs.make_pool(f"volplug{os.getpid()}", size_bytes=256 * MIB)


@pytest.fixture
def parent(pool: ZfsPool) -> str:
    """A dataset for the volumes of one test."""
    return pool.new_parent()


@pytest.fixture
def tools() -> ZfsTools:
    return ZfsTools(run_program, 30)


@pytest.fixture
async def capabilities(zfs: HostZfs, tools: ZfsTools) -> Capabilities:
    return await probe(tools)
