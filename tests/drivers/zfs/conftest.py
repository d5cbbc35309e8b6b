"""A real pool for the tests of a module."""

import os
from collections.abc import Iterator

import pytest

from tests.lab.zfs import HostZfs, ZfsPool, own_or_private_zfs, run_program
from volplug.drivers.zfs.capabilities import Capabilities, probe
from volplug.drivers.zfs.tools import ZfsTools
from volplug.sizes import MIB


@pytest.fixture(scope="module")
def zfs() -> Iterator[HostZfs]:
    with own_or_private_zfs() as zfs:
        yield zfs


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
