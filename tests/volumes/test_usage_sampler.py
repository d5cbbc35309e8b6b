import asyncio
from typing import Any

import pytest

from tests.volumes.world import Clock
from volplug.errors import HostError
from volplug.models import Usage
from volplug.testing.host import MemoryHost
from volplug.volumes.usage_sampler import FRESH_S, UsageSample, UsageSampler

TARGET = "/m/v"


class SlowHost(MemoryHost):
    """A machine whose filesystems answer when the test resolves them.

    Attributes:
        answers: Resolved by the test; one per sample.
        known: What each sample was given as known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[Usage]] = []
        self.known: list[Usage | None] = []

    async def usage(self, target: str, last: Usage | None) -> Usage:
        self.known.append(last)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


@pytest.fixture
async def host() -> SlowHost:
    return SlowHost()


async def answered(host: SlowHost, sampler: UsageSampler, result: Usage | Exception) -> UsageSample | None:
    """A caller that waits for its sample, which the host answers."""
    waiting = asyncio.create_task(sampler.sample(host, "v", TARGET))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answer(host, result)
    return await waiting


def answer(host: SlowHost, result: Usage | Exception) -> None:
    if isinstance(result, Usage):
        host.answers[-1].set_result(result)
    else:
        host.answers[-1].set_exception(result)


async def test_an_old_sample_is_replaced_and_a_fresh_one_is_not(host: SlowHost) -> None:
    clock = Clock()
    sampler = UsageSampler(wait_s=10, clock=clock)
    assert await answered(host, sampler, Usage(1, 2)) == UsageSample(Usage(1, 2), 0)
    clock.now_s += FRESH_S
    assert await sampler.sample(host, "v", TARGET) == UsageSample(Usage(1, 2), FRESH_S)
    clock.now_s += 1
    assert await answered(host, sampler, Usage(3, 4)) == UsageSample(Usage(3, 4), 0)
    assert host.known == [None, Usage(1, 2)]


async def test_callers_share_one_sample(host: SlowHost) -> None:
    sampler = UsageSampler(wait_s=10)
    others = [asyncio.create_task(sampler.sample(host, "v", TARGET)) for _ in range(4)]
    shown = [await answered(host, sampler, Usage(1, 2)), *await asyncio.gather(*others)]
    assert {each.usage for each in shown if each} == {Usage(1, 2)}
    assert len(host.answers) == 1


async def test_a_device_that_hangs_is_waited_for_once_and_the_last_sample_shown(host: SlowHost) -> None:
    clock = Clock()
    sampler = UsageSampler(wait_s=0.001, clock=clock)
    assert await sampler.sample(host, "v", TARGET) is None
    answer(host, Usage(1, 2))
    await asyncio.sleep(0)
    clock.now_s += 60
    for _ in range(3):
        assert await sampler.sample(host, "v", TARGET) == UsageSample(Usage(1, 2), 60)
    assert len(host.answers) == 2


async def test_a_volume_that_was_unmounted_has_no_usage(host: SlowHost) -> None:
    sampler = UsageSampler(wait_s=0)
    await sampler.sample(host, "v", TARGET)
    await asyncio.sleep(0)
    sampler.forget("v")
    answer(host, Usage(1, 2))
    assert await sampler.sample(host, "v", TARGET) is None
    await asyncio.sleep(0)
    answer(host, Usage(3, 4))


@pytest.mark.parametrize("error", [HostError("input/output error"), OSError(5, "input/output error")])
async def test_a_failed_sample_changes_nothing_and_is_repeated(host: SlowHost, error: Exception) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    clock = Clock()
    sampler = UsageSampler(wait_s=10, clock=clock)
    assert await answered(host, sampler, error) is None
    assert await answered(host, sampler, Usage(1, 2)) == UsageSample(Usage(1, 2), 0)
    clock.now_s += 60
    assert await answered(host, sampler, error) == UsageSample(Usage(1, 2), 60)
    assert await answered(host, sampler, Usage(3, 4)) == UsageSample(Usage(3, 4), 0)
    assert complaints == []
