import pytest

from tests.volumes.world import World


@pytest.fixture
async def world() -> World:
    return World()
