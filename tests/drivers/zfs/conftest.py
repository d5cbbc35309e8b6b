"""A real pool for the tests of a module."""

import os
from collections.abc import Iterator

import pytest

from tests.lab.lane import new_directory
from tests.lab.zfs import ZfsFuse, ZfsPool, zfs_fuse
from volplug.sizes import MIB


@pytest.fixture(scope="module")
def daemon() -> Iterator[ZfsFuse]:
    directory = new_directory()
    with zfs_fuse(directory) as daemon:
        yield daemon
    directory.rmdir()


@pytest.fixture(scope="module")
def pool(daemon: ZfsFuse) -> ZfsPool:
    return daemon.make_pool(f"volplug{os.getpid()}", size_bytes=256 * MIB)


@pytest.fixture
def parent(pool: ZfsPool) -> str:
    """A dataset for the volumes of one test."""
    return pool.new_parent()
