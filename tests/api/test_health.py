"""Health and readiness over HTTP."""

import pytest

from tests.api.serving import Api
from tests.volumes.world import World

pytestmark = pytest.mark.api


async def test_a_process_that_answers_says_so(api: Api) -> None:
    assert await api.ok("/healthz") == {"status": "ok"}


async def test_it_is_ready_while_it_can_do_its_work(world: World, api: Api) -> None:
    assert await api.ok("/readyz") == {"ready": True, "problems": []}


async def test_it_is_not_ready_and_says_why(world: World, api: Api) -> None:
    world.store.broken = True
    answer = await api.get("/readyz")
    assert answer.status == 503
    assert answer.json == {
        "ready": False,
        "problems": ["the state file cannot be used: disk full."],
    }
    assert (await api.get("/healthz")).status == 200
