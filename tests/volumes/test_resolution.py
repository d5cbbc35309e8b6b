"""What became of operations of the control API that a kill interrupted, at each point of their course."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from tests.volumes.world import GatedDriver, LocalDriver, World, call
from volplug.errors import BackendDenied, BackendUnavailable, UnexpectedState
from volplug.models import Volume, VolumeState
from volplug.testing.memory import MemoryDriver
from volplug.volumes.create import request_from_json, request_to_json
from volplug.volumes.ledger import Desired
from volplug.volumes.operations import ApiVerb, Operation, OperationState, Origin
from volplug.volumes.options import CreateRequest, read_options

RUNNING, SUCCEEDED, FAILED = OperationState.RUNNING, OperationState.SUCCEEDED, OperationState.FAILED
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Exact(World):
    """A world whose reads are never stale: a local backend."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.driver = LocalDriver(self.cloud)
        self.backends["memory"] = self.driver
        self.restart()


@pytest.fixture
def world() -> World:
    return Exact()


def interrupt(world: World, verb: ApiVerb, request: CreateRequest | None = None) -> None:
    """Leave the row of an operation whose process has died, and start the next one."""
    text = request_to_json(request) if request else ""
    left = Operation("old-1", verb.value, "v", origin=Origin.API, started_at=AT, request=text)
    world.store.operations[left.operation_id] = left
    world.restart()


async def resolved(world: World) -> tuple[OperationState, str]:
    """Start, and return how the interrupted operation is shown: its state and its failure's code."""
    await world.recover()
    await world.finish_tasks()
    shown = world.service.operations.get("old-1")
    assert world.store.operations["old-1"].state is shown.state
    return shown.state, shown.failure.code if shown.failure else ""


async def nothing(_: World) -> None:
    """Killed between the row and the work."""


async def made(world: World) -> None:
    await world.create("v")


async def lost(world: World) -> None:
    """Done, and killed before the row of the end; the ledger's entry is written already."""
    await world.create("v")
    await world.service.remove("v")


async def lingering(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")


async def detached(world: World) -> None:
    await lingering(world)
    await world.run_timers()


async def in_use(world: World) -> None:
    await world.mounted()


async def half_made(world: World) -> None:
    await world.create("v")
    volume = replace(world.volume(), state=VolumeState.INCOMPLETE)
    world.cloud.volumes[volume.volume_id] = volume
    await world.ledger.put(replace(world.entry(), record=volume, desired=Desired.PRESENT))


async def half_deleted(world: World) -> None:
    await world.create("v")
    volume = replace(world.volume(), state=VolumeState.DELETING)
    world.cloud.volumes[volume.volume_id] = volume
    await world.ledger.put(replace(world.entry(), record=volume, desired=Desired.ABSENT))


async def held_by_b(world: World) -> None:
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())


async def broken(world: World) -> None:
    await world.create("v")
    world.cloud.volumes[world.volume().volume_id] = replace(world.volume(), state=VolumeState.ERROR)


INTERRUPTED = (FAILED, "interrupted")


@pytest.mark.parametrize(
    ("verb", "left", "result"),
    [
        (ApiVerb.CREATE, nothing, INTERRUPTED),
        (ApiVerb.CREATE, made, (SUCCEEDED, "")),
        (ApiVerb.CREATE, in_use, (SUCCEEDED, "")),
        (ApiVerb.CREATE, half_made, (SUCCEEDED, "")),
        (ApiVerb.CREATE, broken, INTERRUPTED),
        (ApiVerb.DELETE, made, INTERRUPTED),
        (ApiVerb.DELETE, in_use, INTERRUPTED),
        (ApiVerb.DELETE, half_deleted, (SUCCEEDED, "")),
        (ApiVerb.DELETE, lost, (SUCCEEDED, "")),
        (ApiVerb.RELEASE, nothing, INTERRUPTED),
        (ApiVerb.RELEASE, in_use, INTERRUPTED),
        (ApiVerb.RELEASE, detached, (SUCCEEDED, "")),
        (ApiVerb.RELEASE, held_by_b, (SUCCEEDED, "")),
        (ApiVerb.TAKEOVER, nothing, INTERRUPTED),
        (ApiVerb.TAKEOVER, held_by_b, INTERRUPTED),
        (ApiVerb.TAKEOVER, made, (SUCCEEDED, "")),
        (ApiVerb.TAKEOVER, in_use, (SUCCEEDED, "")),
    ],
)
async def test_what_became_of_it_is_what_is_observed(
    world: World,
    verb: ApiVerb,
    left: Callable[[World], Awaitable[None]],
    result: tuple[OperationState, str],
) -> None:
    await left(world)
    await world.finish_tasks()
    interrupt(world, verb, CreateRequest(name="v") if verb is ApiVerb.CREATE else None)
    before = len(world.cloud.calls)
    assert await resolved(world) == result
    changes = {"create", "delete", "take_from", "fence"} & set(world.calls_since(before))
    assert changes == ({"create"} if left is half_made else {"delete"} if left is half_deleted else set())


async def test_a_volume_that_is_not_what_was_asked_for_is_no_success(world: World) -> None:
    await world.create("v", size="1GiB")
    interrupt(world, ApiVerb.CREATE, read_options("v", {"size": "2GiB"}))
    assert await resolved(world) == (FAILED, "volume-exists")
    interrupt(world, ApiVerb.CREATE, CreateRequest(name="v", backend="other"))
    assert await resolved(world) == (FAILED, "volume-exists")


async def test_a_release_whose_detach_fails_has_failed(world: World) -> None:
    await lingering(world)
    world.occupy("v", "a backup")
    interrupt(world, ApiVerb.RELEASE)
    await resolved(world)
    assert await resolved_again(world) == INTERRUPTED


async def test_a_release_whose_detach_succeeds_has_succeeded(world: World) -> None:
    await lingering(world)
    interrupt(world, ApiVerb.RELEASE)
    assert await resolved(world) == (RUNNING, "")
    assert await resolved_again(world) == (SUCCEEDED, "")


async def resolved_again(world: World) -> tuple[OperationState, str]:
    for _ in range(2):  # the detach and the next look are in no order
        await world.run_timers()
    await world.finish_tasks()
    shown = world.service.operations.get("old-1")
    return shown.state, shown.failure.code if shown.failure else ""


async def test_while_the_backend_does_not_answer_it_is_not_resolved(world: World) -> None:
    await world.create("v")
    interrupt(world, ApiVerb.DELETE)
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    assert await resolved(world) == (RUNNING, "")
    assert await resolved_again(world) == (RUNNING, "")
    world.cloud.outage = None
    world.cloud.volumes.clear()
    assert await resolved_again(world) == (SUCCEEDED, "")


async def test_what_can_never_be_told_is_said_so(world: World) -> None:
    interrupt(world, ApiVerb.DELETE)
    world.cloud.outage = BackendDenied("access denied")
    assert await resolved(world) == INTERRUPTED
    failure = world.service.operations.get("old-1").failure
    assert failure is not None
    assert "what became of it is not known: access denied" in failure.text
    assert failure.retryable


class StaleDriver(GatedDriver):
    """Shows no volume at first: the cloud serves a read from before it was created."""

    stale_looks = 1

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        if self.stale_looks:
            self.stale_looks -= 1
            return None
        return found


class BrokenDriver(LocalDriver):
    """Has a bug."""

    async def get(self, name: str) -> Volume | None:
        raise ZeroDivisionError


async def test_a_bug_of_a_driver_does_not_leave_it_running(world: World) -> None:
    world.backends["memory"] = BrokenDriver(world.cloud)
    interrupt(world, ApiVerb.DELETE)
    with capture_logs() as logs:
        assert await resolved(world) == (FAILED, "interrupted")
    assert "internal error" in [line["event"] for line in logs]


async def test_a_cloud_is_asked_again_after_a_minute_before_it_is_believed() -> None:
    world = World()
    await world.create("v")
    await world.ledger.forget("v")
    world.backends["memory"] = StaleDriver(world.cloud)
    interrupt(world, ApiVerb.CREATE, CreateRequest(name="v"))
    assert await resolved(world) == (RUNNING, "")
    assert ("resolution of old-1", world.deadlines.mount_grace_s) in world.timers.delays
    assert await resolved_again(world) == (SUCCEEDED, "")


async def test_a_clouds_second_answer_is_believed() -> None:
    world = World()
    interrupt(world, ApiVerb.CREATE, CreateRequest(name="v"))
    assert await resolved(world) == (RUNNING, "")
    assert await resolved_again(world) == INTERRUPTED


async def test_operations_that_have_ended_are_as_they_were(world: World) -> None:
    await world.create("v")
    begun = await world.service.start_create(CreateRequest(name="v"), call("k", "f"))
    ended = replace(await world.service.operations.wait(begun.operation_id, 60))
    world.restart()
    before = len(world.cloud.calls)
    await world.recover()
    assert world.service.operations.get(begun.operation_id) == ended
    assert world.calls_since(before) == []


@pytest.mark.parametrize(
    "request_made",
    [
        CreateRequest(name="v"),
        read_options("v", {"size": "2GiB", "mkfs-opts": "-m 0", "mount-opts": "noatime", "mode": "0750"}),
        CreateRequest(name="v", backend="b", profile="p", mkfs_options=(), driver_options={"type": "gp3"}),
    ],
)
def test_a_request_reads_back_as_it_was_written(request_made: CreateRequest) -> None:
    assert request_from_json(request_to_json(request_made)) == request_made


@pytest.mark.parametrize("text", ["", "[]", "3", '{"name": "v", "from": "the future"}', '{"size_bytes": 1}'])
def test_a_request_of_another_version_is_an_error(text: str) -> None:
    with pytest.raises(UnexpectedState):
        request_from_json(text)
