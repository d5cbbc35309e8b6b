"""Operations and events through the control API."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.api.serving import Api, serving, unix_client
from tests.api.test_bounds import bounded
from tests.volumes.world import World
from volplug.api.access import ApiClient, Role
from volplug.config import Settings
from volplug.connections import Bounds
from volplug.errors import Unauthenticated, VolumeInUse

pytestmark = pytest.mark.api


async def test_operations_of_docker_are_shown_with_phase_and_result(world: World, api: Api) -> None:
    await world.create("db")
    attaching = world.driver.hold("attach")
    mounting = asyncio.create_task(world.mount("db"))
    await attaching.reached.wait()
    (running,) = (await api.ok("/v1/operations?state=running&volume=db"))["operations"]
    assert (running["kind"], running["origin"], running["phase"]) == ("mount", "docker", "attach")
    assert running["ended_at"] is running["request_id"] is None
    waiting = asyncio.create_task(api.ok(f"/v1/operations/{running['id']}?wait_s=20"))
    attaching.opened.set()
    await mounting
    assert (await waiting)["state"] == "succeeded"
    listed = (await api.ok("/v1/operations"))["operations"]
    assert [(each["kind"], each["state"]) for each in listed] == [
        ("mount", "succeeded"),
        ("create", "succeeded"),
    ]


async def test_a_wait_ends_with_its_time(world: World, api: Api) -> None:
    world.driver.hold("create")
    started = await api.call("POST", "/v1/volumes", {"name": "db"})
    shown = await api.ok(f"{started.headers['Location']}?wait_s=0.01")
    assert (shown["state"], shown["request_id"]) == ("running", started.headers["X-Request-Id"])
    world.driver.hold("create").opened.set()
    await api.ok(f"{started.headers['Location']}?wait_s=20")


async def test_an_operation_of_the_api_is_cancelled_and_others_are_not(world: World, api: Api) -> None:
    creating = world.driver.hold("create")
    docker = asyncio.create_task(world.create("other"))
    await creating.reached.wait()
    (of_docker,) = (await api.ok("/v1/operations"))["operations"]
    refused = await api.call("POST", f"/v1/operations/{of_docker['id']}/cancel")
    assert (refused.status, refused.json["code"]) == (409, "not-cancellable")
    lock = world.node.locks.of("db")
    async with lock:
        started = await api.call("POST", "/v1/volumes", {"name": "db"})
        location = started.headers["Location"]
        assert (await api.call("POST", f"{location}/cancel")).status == 202
    ended = await api.ok(f"{location}?wait_s=20")
    assert (ended["state"], ended["failure"]["code"]) == ("cancelled", "cancelled")
    again = await api.call("POST", f"{location}/cancel")
    assert (again.status, again.json["code"]) == (409, "not-cancellable")
    creating.opened.set()
    await docker
    assert [volume.name for volume in world.cloud.volumes.values()] == ["other"]


async def test_operations_are_listed_in_pages(world: World, api: Api) -> None:
    for number in range(12):
        await world.create(f"volume-{number}")
    first = await api.ok("/v1/operations?limit=5")
    await world.create("later")
    second = await api.ok(f"/v1/operations?limit=50&cursor={first['next_cursor']}")
    shown = [each["volume"] for each in (*first["operations"], *second["operations"])]
    assert shown == [f"volume-{number}" for number in reversed(range(12))]
    assert second["next_cursor"] is None
    unknown = await api.get("/v1/operations?cursor=YWJj")
    assert (unknown.status, unknown.json["code"]) == (400, "invalid-request")


async def test_an_operation_says_what_became_of_it_after_a_restart(
    world: World, settings: Settings, api: Api
) -> None:
    done = await api.done("POST", "/v1/volumes", {"name": "db"})
    creating = world.driver.hold("create")
    started = await api.call("POST", "/v1/volumes", {"name": "other"})
    await creating.reached.wait()
    world.restart()
    await world.recover()
    after = settings.model_copy(update={"control_socket": Path(f"{settings.control_socket}2")})
    assert after.control_socket is not None
    async with serving(world.service, after), unix_client(after.control_socket) as client:
        known = await client.ok(f"/v1/operations/{done['id']}")
        assert known | {"ended_at": None} == done | {"ended_at": None}
        cut_off = f"/v1/operations/{started.json['id']}"
        assert (await client.ok(cut_off))["state"] == "running"  # reads of a cloud may be stale at first
        creating.opened.set()  # what the old process had requested is done
        await api.ok(f"{cut_off}?wait_s=20")
        await world.run_timers()
        assert (await client.ok(f"{cut_off}?wait_s=20"))["state"] == "succeeded"


async def test_events_are_listed_by_cursor_and_filtered(world: World, api: Api) -> None:
    await world.mounted("db")
    await world.create("other")
    page = await api.ok("/v1/events?volume=db&kind=change")
    assert {event["volume"] for event in page["events"]} == {"db"}
    assert "volume attached" in [event["text"] for event in page["events"]]
    assert not page["is_lost"]
    rest = await api.ok(f"/v1/events?after={page['cursor']}")
    assert rest == {"events": [], "cursor": page["cursor"], "is_lost": False}
    mount = (await api.ok("/v1/operations?volume=db"))["operations"][0]
    of_mount = (await api.ok(f"/v1/events?operation={mount['id']}"))["events"]
    assert {event["operation"] for event in of_mount} == {mount["id"]}
    assert (await api.ok("/v1/events?limit=1"))["events"] == (await api.ok("/v1/events"))["events"][:1]


async def test_what_is_not_reached_yet_is_an_event(world: World, api: Api) -> None:
    await world.mounted("db")
    world.occupy("db", "container")
    with pytest.raises(VolumeInUse):
        await world.service.unmount("db", "c1")
    await world.run_timers()
    events = (await api.ok("/v1/events?volume=db&kind=retry"))["events"]
    assert "container" in str(events)
    world.vacate("db")


async def test_an_event_of_another_run_marks_what_is_lost(api: Api) -> None:
    assert (await api.ok("/v1/events?after=other-7"))["is_lost"]


class TestStream:
    @asynccontextmanager
    async def stream(
        self, api: Api, path: str = "/v1/events", **headers: str
    ) -> AsyncIterator[AsyncIterator[Any]]:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        async with api.session.get(
            f"http://localhost{path}", headers={"Accept": "text/event-stream", **given}
        ) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield self._events(answer.content)

    async def _events(self, content: Any) -> AsyncIterator[dict[str, str]]:  # noqa: ANN401  # aiohttp's
        while True:
            lines = (await content.readuntil(b"\n\n")).decode().splitlines()
            yield {key: value for key, _, value in (line.partition(": ") for line in lines if line)}

    async def test_events_come_as_they_happen_and_go_on_where_a_client_stopped(
        self, world: World, api: Api
    ) -> None:
        async with self.stream(api, "/v1/events?kind=change") as events:
            await world.create("db")
            first = await anext(events)
        assert (first["event"], json.loads(first["data"])["volume"]) == ("change", "db")
        assert json.loads(first["data"])["id"] == first["id"]
        await world.mount("db")
        shown = await api.ok(f"/v1/events?kind=change&after={first['id']}")
        async with self.stream(api, "/v1/events?kind=change", Last_Event_ID=first["id"]) as events:
            streamed = [await anext(events) for _ in shown["events"]]
        assert [json.loads(event["data"]) for event in streamed] == shown["events"]

    async def test_a_client_is_told_that_events_are_lost(self, world: World, api: Api) -> None:
        async with self.stream(api, Last_Event_ID="other-7") as events:
            lost = await anext(events)
            assert (lost["event"], lost["data"], lost["id"]) == ("lost", "{}", world.service.events.latest)
            await world.create("db")
            assert json.loads((await anext(events))["data"])["volume"] == "db"

    async def test_silence_is_filled_with_comments(self, world: World, directory: Path) -> None:
        async with (
            bounded(world, directory / "c.sock", Bounds(), keep_alive_s=0.01) as client,
            self.stream(client) as events,
        ):
            assert [await anext(events) for _ in range(3)] == [{"": "keep-alive"}] * 3

    async def test_a_stream_ends_soon_after_its_client_is_not_permitted_any_more(
        self, world: World, directory: Path
    ) -> None:
        clients = [ApiClient("monitoring", Role.READ)]

        async def admit(_: web.BaseRequest) -> ApiClient:
            if not clients:
                raise Unauthenticated("the client is not known")
            return clients[0]

        async with (
            bounded(world, directory / "c.sock", Bounds(), keep_alive_s=0.01, admit=admit) as client,
            self.stream(client) as events,
        ):
            await anext(events)
            clients.clear()
            assert {} in [await anext(events) for _ in range(100)]  # the end

    async def test_an_open_stream_ends_when_the_server_stops(self, world: World, settings: Settings) -> None:
        assert settings.control_socket is not None
        async with unix_client(settings.control_socket) as client:
            async with serving(world.service, settings):
                answer = await client.session.get(
                    "http://localhost/v1/events", headers={"Accept": "text/event-stream"}
                )
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
