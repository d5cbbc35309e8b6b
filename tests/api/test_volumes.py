"""Volumes through the control API: shown, listed, created, deleted, released, taken over."""

from dataclasses import replace
from typing import Any

import pytest

from tests.api.serving import Api
from tests.volumes.world import GENEROUS, GatedDriver, World
from volplug.errors import BackendUnavailable
from volplug.models import VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.memory import MemoryDriver

pytestmark = pytest.mark.api


async def test_a_volume_is_created_shown_and_deleted(world: World, api: Api) -> None:
    sent = {"name": "db", "size_bytes": 2 * GIB, "options": {"fs": "xfs"}}
    created = await api.done("POST", "/v1/volumes", sent)
    assert (created["kind"], created["volume"], created["origin"]) == ("create", "db", "api")
    assert (created["state"], created["failure"]) == ("succeeded", None)
    assert created["started_at"] <= created["ended_at"]
    shown = await api.ok("/v1/volumes/db")
    assert shown == (await api.ok("/v1/volumes"))["volumes"][0] == await api.ok("/v1/volumes/memory/db")
    assert (shown["size_bytes"], shown["backend"], shown["state"]) == (2 * GIB, "memory", "available")
    assert world.volume("db").spec.fs_type == "xfs"
    assert (await api.done("DELETE", "/v1/volumes/memory/db"))["state"] == "succeeded"
    assert (await api.get("/v1/volumes/db")).status == 404
    assert (await api.call("DELETE", "/v1/volumes/db")).status == 404


async def test_what_is_mounted_is_shown_as_such_and_not_deleted(world: World, api: Api) -> None:
    await world.mounted("db")
    world.occupy("db", "container")
    shown = await api.ok("/v1/volumes/db")
    assert (shown["mountpoint"], shown["mount_count"], shown["holder"]) == ("/mounts/db/data", 1, "node-a")
    assert (shown["desired"], shown["filesystem"]) == ("mounted", "ext4")
    assert set(shown["usage"]) >= {"used_bytes", "free_bytes", "device"}
    for path, method in (("/v1/volumes/db", "DELETE"), ("/v1/volumes/db/release", "POST")):
        ended = await api.done(method, path)
        assert (ended["state"], ended["failure"]["code"]) == ("failed", "volume-in-use")
        assert ended["failure"]["retryable"]
    assert world.is_mounted("db")


async def test_a_creation_that_cannot_be_done_fails_with_its_reason(api: Api) -> None:
    await api.done("POST", "/v1/volumes", {"name": "db"})
    ended = await api.done("POST", "/v1/volumes", {"name": "db", "size_bytes": 5 * GIB})
    assert (ended["state"], ended["failure"]["code"]) == ("failed", "volume-exists")
    other = await api.done("POST", "/v1/volumes", {"name": "other", "backend": "none"})
    assert (other["state"], other["failure"]["code"]) == ("failed", "configuration-error")


@pytest.mark.parametrize("option", ["size", "Size", "backend"])
async def test_what_is_given_as_a_key_and_as_an_option_is_refused(
    world: World, api: Api, option: str
) -> None:
    sent = {"name": "db", "size_bytes": GIB, "backend": "memory", "options": {option: "memory"}}
    answer = await api.call("POST", "/v1/volumes", sent)
    assert (answer.status, answer.json["code"]) == (400, "invalid-option")
    assert "given twice" in answer.json["cause"]
    assert world.cloud.volumes == {}


async def test_volumes_are_listed_in_pages_and_filtered(world: World, api: Api) -> None:
    names = [f"volume-{number:02}" for number in range(25)]
    for name in (*names, "other"):
        await world.create(name)

    async def listed(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page: dict[str, Any] = await api.ok(f"/v1/volumes?{query}{cursor}")
            found += [volume["name"] for volume in page["volumes"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert await listed("limit=7") == ["other", *names]
    assert await listed("limit=5&name=volume") == names
    assert await listed("limit=1&name=ume-1") == names[10:20]
    assert await listed("backend=other") == []
    assert await listed("backend=memory&state=available") == ["other", *names]
    assert await listed("state=in-use") == []


async def test_a_page_goes_on_behind_a_volume_that_is_gone(world: World, api: Api) -> None:
    for name in ("a", "b", "c"):
        await world.create(name)
    page = await api.ok("/v1/volumes?limit=2")
    await api.done("DELETE", "/v1/volumes/b")
    rest = await api.ok(f"/v1/volumes?cursor={page['next_cursor']}")
    assert [volume["name"] for volume in rest["volumes"]] == ["c"]


@pytest.mark.parametrize(("method", "end"), [("DELETE", ""), ("POST", "/release"), ("POST", "/takeover")])
async def test_a_volume_that_was_made_since_is_not_the_one_that_was_meant(
    world: World, api: Api, method: str, end: str
) -> None:
    await world.create("db")
    async with world.node.locks.of("db"):
        started = await api.call(method, f"/v1/volumes/db{end}")
        await world.driver.delete(world.volume("db"))
        world.service._catalog.invalidate("db")
        made = await world.driver.create(VolumeSpec("db", GIB))
    ended = await api.ok(f"{started.headers['Location']}?wait_s=20")
    assert (ended["state"], ended["failure"]["code"]) == ("failed", "conflict")
    assert world.volume("db").volume_id == made.volume_id


class TestTwoBackends:
    @pytest.fixture
    async def world(self) -> World:
        world = World(deadlines=replace(GENEROUS, linger_s=100))
        world.add_backend("other")
        return world

    async def test_a_volume_of_another_backend_is_not_the_one_that_is_named(
        self, world: World, api: Api
    ) -> None:
        assert (await api.done("POST", "/v1/volumes", {"name": "db", "backend": "other"}))["failure"] is None
        assert (await api.ok("/v1/volumes/other/db"))["backend"] == "other"
        assert await api.ok("/v1/volumes/other/db") == await api.ok("/v1/volumes/db")
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/release"), ("POST", "/takeover")):
            for backend, code in (("memory", "volume-not-found"), ("none", "backend-not-found")):
                answer = await api.call(method, f"/v1/volumes/{backend}/db{end}")
                assert (answer.status, answer.json["code"]) == (404, code)
        assert (await api.get("/v1/volumes/db")).status == 200

    async def test_the_volume_of_the_same_name_in_another_backend_is_not_changed(
        self, world: World, api: Api
    ) -> None:
        await world.create("db", backend="memory")
        await world.mount("db")
        await world.service.unmount("db", "c1")
        await world.backends["other"].create(VolumeSpec("db", GIB))
        assert world.volume("db").holder == "node-a"
        for method, end in (("DELETE", ""), ("POST", "/release"), ("POST", "/takeover")):
            ended = await api.done(method, f"/v1/volumes/other/db{end}")
            assert (ended["state"], ended["failure"]["code"]) == ("failed", "conflict")
        assert world.volume("db").holder == "node-a"
        assert await world.backends["other"].get("db") is not None

    async def test_backends_are_shown_with_what_is_wrong(self, world: World, api: Api) -> None:
        await world.create("db", backend="other")
        world.cloud.outage = BackendUnavailable("the cloud does not answer", "Wait")
        first, second = (await api.ok("/v1/backends"))["backends"]
        assert (first["name"], first["is_default"], first["volume_count"]) == ("memory", True, None)
        assert first["problem"] == {
            "code": "backend-unavailable",
            "cause": "the cloud does not answer",
            "remedy": "Wait",
            "retryable": True,
        }
        assert (second["name"], second["problem"], second["volume_count"]) == ("other", None, 1)
        assert second["sizes"]["default_size_bytes"] == GIB
        assert second["limits"] == [{"name": "volumes", "used": 1, "maximum": None, "unit": "volumes"}]
        assert first["limits"] is None
        assert await api.ok("/v1/backends/other") == second

    async def test_this_node_is_shown(self, world: World, api: Api) -> None:
        await world.create("db", backend="memory")
        await world.mount("db")
        (node,) = (await api.ok("/v1/nodes"))["nodes"]
        assert node["node_ids"] == {"memory": "node-a", "other": "node-a"}
        assert (node["volumes_in_use"], node["volumes_attached"]) == (1, 1)
        assert await api.ok(f"/v1/nodes/{node['id']}") == node


class TestETags:
    async def test_an_unchanged_volume_has_the_same_tag(self, world: World, api: Api) -> None:
        await world.create("db")
        first = await api.get("/v1/volumes/db")
        again = await api.get("/v1/volumes/db", If_None_Match=f'"other", {first.headers["ETag"]}')
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        await world.mount("db")
        changed = await api.get("/v1/volumes/db", If_None_Match=first.headers["ETag"])
        assert changed.status == 200
        assert changed.headers["ETag"] != first.headers["ETag"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", "/v1/volumes/db"),
            ("POST", "/v1/volumes/db/release"),
            ("POST", "/v1/volumes/memory/db/takeover"),
        ],
    )
    async def test_a_change_needs_the_tag_of_the_volume_as_it_is(
        self, world: World, api: Api, method: str, path: str
    ) -> None:
        await world.create("db")
        etag = (await api.get("/v1/volumes/db")).headers["ETag"]
        before = world.cloud.volumes.copy()
        for wrong in ('"other"', "other", f"W/{etag}", etag.strip('"'), ""):
            answer = await api.call(method, path, headers={"If-Match": wrong})
            assert (answer.status, answer.json["code"]) == (412, "precondition-failed")
        assert world.cloud.volumes == before
        assert (await api.done(method, path, If_Match=f'"other", {etag}'))["state"] == "succeeded"

    async def test_any_tag_matches_what_exists(self, world: World, api: Api) -> None:
        await world.create("db")
        assert (await api.done("DELETE", "/v1/volumes/db", If_Match="*"))["state"] == "succeeded"
        assert (await api.call("DELETE", "/v1/volumes/db", headers={"If-Match": "*"})).status == 404


class TestIdempotencyKeys:
    async def test_a_repeated_request_starts_nothing_twice(self, world: World, api: Api) -> None:
        headers = {"Idempotency-Key": "key-1"}
        first = await api.call("POST", "/v1/volumes", {"name": "db"}, headers)
        await api.ok(f"{first.headers['Location']}?wait_s=20")
        again = await api.call("POST", "/v1/volumes", {"name": "db"}, headers)
        assert again.headers["Location"] == first.headers["Location"]
        assert world.cloud.calls.count("create") == 1
        other = await api.call("POST", "/v1/volumes", {"name": "other"}, headers)
        assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")

    async def test_a_repeated_deletion_is_the_first_one_although_the_volume_is_gone(
        self, world: World, api: Api
    ) -> None:
        await world.create("db")
        etag = (await api.get("/v1/volumes/db")).headers["ETag"]
        headers = {"Idempotency-Key": "key-1", "If-Match": etag}
        first = await api.call("DELETE", "/v1/volumes/db", headers=headers)
        await api.ok(f"{first.headers['Location']}?wait_s=20")
        again = await api.call("DELETE", "/v1/volumes/db", headers=headers)
        assert (again.status, again.headers["Location"]) == (202, first.headers["Location"])
        other = await api.call("DELETE", "/v1/volumes/memory/db", headers=headers)
        assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")


class TestTakeover:
    @pytest.fixture
    async def elsewhere(self, world: World) -> GatedDriver:
        """A volume that another node has."""
        await world.create("db")
        other = MemoryDriver(world.cloud, "node-b")
        await other.attach(world.volume("db"))
        return world.driver

    async def test_a_dry_run_tells_the_plan_and_changes_nothing(
        self, world: World, api: Api, elsewhere: GatedDriver
    ) -> None:
        before = world.cloud.volumes.copy()
        plan = await api.call("POST", "/v1/volumes/db/takeover", {"dry_run": True})
        assert (plan.status, plan.json["outcome"], plan.json["holder"]) == (200, "refuse", "node-b")
        assert (plan.json["state"], plan.json["evidence"]) == ("alive", "node-b is running")
        world.cloud.dead_nodes.add("node-b")
        plan = await api.call("POST", "/v1/volumes/memory/db/takeover", {"dry_run": True})
        assert (plan.json["outcome"], plan.json["policy"]) == ("take over", "proof")
        assert world.cloud.volumes == before

    async def test_a_volume_of_a_dead_node_is_taken_and_one_of_a_live_node_is_not(
        self, world: World, api: Api, elsewhere: GatedDriver
    ) -> None:
        refused = await api.done("POST", "/v1/volumes/db/takeover", {})
        assert (refused["state"], refused["failure"]["code"]) == ("failed", "volume-in-use")
        assert world.volume("db").holder == "node-b"
        world.cloud.dead_nodes.add("node-b")
        taken = await api.done("POST", "/v1/volumes/db/takeover", {})
        assert (taken["state"], taken["failure"]) == ("succeeded", None)
        assert (world.volume("db").holder, world.volume("db").state) == (None, VolumeState.AVAILABLE)


class TestRelease:
    @pytest.fixture
    async def world(self) -> World:
        return World(deadlines=replace(GENEROUS, linger_s=100))

    async def test_a_lingering_volume_is_detached_at_once(self, world: World, api: Api) -> None:
        await world.mounted("db")
        await world.service.unmount("db", "c1")
        assert world.volume("db").holder == "node-a"
        for _ in range(2):
            assert (await api.done("POST", "/v1/volumes/db/release"))["state"] == "succeeded"
            assert world.volume("db").holder is None
