import asyncio
from typing import Any

import pytest

from volplug.errors import HostError
from volplug.models import Usage
from volplug.testing.host import MemoryHost
from volplug.volumes.usage import UsageSampler


class SlowHost(MemoryHost):
    """A machine whose filesystems answer when they are told to.

    Attributes:
        answers: Resolved by the test; one per look.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[Usage]] = []

    async def usage(self, target: str) -> Usage:
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


@pytest.fixture
async def host() -> SlowHost:
    return SlowHost()


async def looked(host: SlowHost, result: Usage | Exception) -> None:
    """Answer the look that is going on, and let the sampler take note."""
    await asyncio.sleep(0)
    if isinstance(result, Usage):
        host.answers[-1].set_result(result)
    else:
        host.answers[-1].set_exception(result)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_asking_never_waits_and_shares_one_look(host: SlowHost) -> None:
    sampler = UsageSampler()
    assert [sampler.last(host, "v", "/m/v") for _ in range(5)] == [None] * 5
    await looked(host, Usage(1, 2))
    assert sampler.last(host, "v", "/m/v") == Usage(1, 2)
    assert len(host.answers) == 1


async def test_a_volume_that_was_unmounted_has_no_usage(host: SlowHost) -> None:
    sampler = UsageSampler()
    sampler.last(host, "v", "/m/v")
    await looked(host, Usage(1, 2))
    sampler.forget("v")
    assert sampler.last(host, "v", "/m/v") is None
    await looked(host, Usage(1, 2))


@pytest.mark.parametrize("error", [HostError("input/output error"), OSError(5, "input/output error")])
async def test_a_filesystem_that_cannot_say_is_no_news_and_is_asked_again(
    host: SlowHost, error: Exception
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    sampler = UsageSampler()
    sampler.last(host, "v", "/m/v")
    await looked(host, error)
    assert sampler.last(host, "v", "/m/v") is None
    await looked(host, Usage(3, 4))
    assert sampler.last(host, "v", "/m/v") == Usage(3, 4)
    assert complaints == []
