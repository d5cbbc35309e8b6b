"""What `diagnose` finds in recorded answers of OpenStack."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.cinder.recorded import LIMITS, SERVERS, SPEC, TOKEN, Answer, Answering, refusal, volume
from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder import CinderDriver
from volplug.drivers.cinder.errors import OpenStackRefused, translated
from volplug.drivers.cinder.openstack import CINDER, Call, Token
from volplug.drivers.cinder.options import metadata_of
from volplug.drivers.cinder.server import ThisServer
from volplug.drivers.cinder.settings import CinderSettings
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.errors import BackendDenied, BackendUnavailable
from volplug.findings import Finding, Level
from volplug.testing.conformance.calls import problem_of

RED, YELLOW, GREEN = Level.RED, Level.YELLOW, Level.GREEN
ID = SERVERS["active"]["id"]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATELY, LONG_AGO = "2026-03-01T11:59:50.000000", "2026-03-01T11:50:00.000000"
UP = {"binary": "cinder-volume", "host": "store@files", "status": "enabled", "state": "up"}
DOWN = {**UP, "binary": "nova-compute", "host": "node2", "state": "down"}
FORMATTED = {"volplug:fs": "ext4", "volplug:fs-uuid": "0c6f6d3c-9a0b-4f0e-8a4e-111122223333"}


class Keystone:
    """Keystone, and the clock of the services, which this host may be ahead of."""

    def __init__(self, *roles: str, ahead_s: float = 0.0, error: Exception | None = None) -> None:
        self.roles, self.error = roles, error
        self.clock = ServiceClock(lambda: NOW.timestamp() + ahead_s)
        self.clock.note(format_datetime(NOW, usegmt=True))

    async def token(self) -> Token:
        if self.error is not None:
            raise self.error
        return Token("demo", "web", self.roles, NOW)


def listed(*volumes: Mapping[str, Any]) -> Answer:
    return {"volumes": list(volumes)}


def changed(state: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # as the API has it
    return volume("available", **{"status": state, "attachments": [], "updated_at": LONG_AGO, **changes})


def at_server(state: str) -> dict[str, Any]:
    return changed(state, attachments=[{"server_id": ID, "attachment_id": "a"}])


def named_twice(**first: str) -> Answer:
    of_second = metadata_of(SPEC, "prod", {}, TOKEN)
    second = changed("available", id="7c1f2827-740c-4208-9e83-2f0eaf08d36f", metadata=of_second)
    return listed(changed("available", metadata={**of_second, **first}), second)


def denied(rule: str) -> BackendDenied:
    text = f"Policy doesn't allow {rule} to be performed."
    error = translated(OpenStackRefused(CINDER, "GET /x", 403, text))
    assert isinstance(error, BackendDenied)
    return error


WELL: Mapping[str, Answer | Callable[[Call], Answer]] = {
    "GET /servers/ID": {"server": SERVERS["active"]},
    "GET /volumes/detail": listed(changed("available")),
    "GET /os-availability-zone": {"availabilityZoneInfo": []},
    "GET /messages": {"messages": []},
    "GET /limits": LIMITS["ten volumes"],
    "GET /servers/ID/os-volume_attachments": {"volumeAttachments": []},
    "GET /os-services": {"services": [UP]},
}
CHECKS = [
    *("metadata-service", "credentials", "identity", "permissions", "quota", "services"),
    *("transitions", "duplicates", "volume-errors", "clock-skew"),
]


async def diagnosed(
    place: Path, answers: Mapping[str, Any], keystone: Keystone, **more: str
) -> tuple[list[Finding], list[Call]]:
    caller = Answering({**WELL, **answers})
    settings = CinderSettings.model_validate(
        {"cloud": "c", "server_id": ID, "sys_root": place, "config_drive": place, **more}
        | {"metadata_endpoint": "http://127.0.0.1:9"}  # discard: nothing listens
    )
    host = ThisServer(settings, caller)
    driver = CinderDriver(BackendConfig("cloud", "", "prod", place), settings, host, caller, keystone)
    found = list(await driver.diagnose())
    assert [each for each in found if problem_of(each)] == []
    return found, caller.calls


async def test_all_is_well_and_only_reads_are_made(tmp_path: Path) -> None:
    found, calls = await diagnosed(tmp_path, {}, Keystone("admin", "member"))
    assert [(each.check, each.level) for each in found] == [(check, GREEN) for check in CHECKS]
    assert {each.method for each in calls} == {"GET"}
    assert len(calls) <= len(WELL) + 3  # the server and the list twice, the services of both
    texts = {each.check: each.message for each in found}
    assert texts["credentials"] == (
        "Keystone accepts user demo of project web as admin, member, this token until 2026-03-01 12:00 UTC"
    )
    assert "not tried, as they are changes: volume:create, volume:delete, " in texts["permissions"]
    assert texts["metadata-service"] == "a server is named by the setting server_id"
    assert texts["services"] == "all services of Cinder and Nova are up"


VOLUME = WELL["GET /volumes/detail"]["volumes"][0]["id"]  # type: ignore[index]  # it is no function
SET = f"openstack volume set --state {{}} {VOLUME}"
# The answers and the roles, and what is found: check, level, subject, message, remedy.
Case = tuple[Mapping[str, Any], Keystone, str, Level, str, str, str]
MEMBER = Keystone("member")


def of_volume(description: Answer, check: str, level: Level, message: str, remedy: str) -> Case:
    return {"GET /volumes/detail": description}, MEMBER, check, level, "todolist", message, remedy


TEN = LIMITS["ten volumes"]["limits"]["absolute"]
CASES: dict[str, Case] = {
    "creating for too long": of_volume(
        listed(changed("creating")),
        *("transitions", RED, f"{VOLUME} is creating, for 600 s"),
        f"See the log of .*; as administrator: {SET.format('error')}, then openstack volume delete {VOLUME}",
    ),
    "deleting for too long": of_volume(
        listed(changed("deleting")),
        *("transitions", RED, f"{VOLUME} is deleting, for 600 s"),
        f"See the log of .*: {SET.format('error')}, then openstack volume delete --force {VOLUME}",
    ),
    "detaching for too long": of_volume(
        listed(at_server("detaching")),
        *("transitions", RED, f"{VOLUME} is detaching at {ID}, for 600 s"),
        f"Start nova-compute on the host of {ID}; else as administrator: {SET.format('in-use')}",
    ),
    "attaching for too long, to no server": of_volume(
        listed(changed("reserved")),
        *("transitions", RED, f"{VOLUME} is reserved, for 600 s"),
        rf"If no server has it \(openstack volume show .*\), as administrator: {SET.format('available')}",
    ),
    "a transition whose age Cinder does not tell": of_volume(
        listed(changed("creating", updated_at=None)),
        *("transitions", YELLOW, f"{VOLUME} is creating; OpenStack does not tell for how long"),
        "If it is still so in 100 s: See the log of cinder-volume; .*",
    ),
    "an error that an administrator may end": of_volume(
        listed(changed("error_extending")),
        *(
            "volume-errors",
            RED,
            f"{VOLUME}: Cinder could not extend it",
            f"If it is sound: {SET.format('available')}",
        ),
    ),
    "metadata that cannot be read": of_volume(
        listed(changed("available", metadata={**volume("available")["metadata"], "volplug:spec": "x"})),
        *("volume-errors", RED, f"{VOLUME}: .* volplug:spec cannot be read .*"),
        f"Correct it; openstack volume show {VOLUME} shows it",
    ),
    "work that ends": of_volume(
        listed(changed("backing-up")),
        *("volume-errors", YELLOW, f"{VOLUME}: Cinder is not done with it .*", "Wait until that has ended"),
    ),
    "two volumes of one name, which may both have data": of_volume(
        named_twice(**{**FORMATTED, "volplug:token": ""}),
        *(
            "duplicates",
            RED,
            rf"2 volumes carry this name: {VOLUME} \(available, formatted, .*\), 7c1f2827.*",
        ),
        "Delete the one without your data: openstack volume delete ID; or rename: openstack volume set"
        " --property volplug:name=OTHER-NAME ID",
    ),
    "two volumes of one name, one of which was never attached": of_volume(
        named_twice(**FORMATTED),
        *("duplicates", YELLOW, "2 volumes carry this name: .*"),
        "Of concurrent creations; delete what was never attached: openstack volume delete 7c1f2827-.*",
    ),
    "a reader": (
        *({}, Keystone("reader"), "permissions", YELLOW, "cloud"),
        "as reader, user demo may change no volumes by default policies",
        "Unless policies differ, .*: openstack role add --user demo --project web member",
    ),
    "a policy that is missing": (
        *({"GET /os-availability-zone": denied("volume:availability_zone_list")}, MEMBER, "permissions", RED),
        *(
            "cloud",
            "Cinder does not allow volume:availability_zone_list",
            "Use credentials with a role that .*",
        ),
    ),
    "a policy that only explains": (
        *({"GET /messages": denied("message:get_all")}, MEMBER, "permissions", YELLOW),
        *("cloud", "Cinder does not allow message:get_all", "Use credentials with a role that .*"),
    ),
    "volumes that may not be listed": (
        *({"GET /volumes/detail": denied("volume:get_all")}, MEMBER, "permissions", RED),
        *("cloud", "Cinder does not allow volume:get_all", "Use credentials with a role that .*"),
    ),
    "a quota that is used up": (
        *(
            {"GET /limits": {"limits": {"absolute": {**TEN, "totalVolumesUsed": 10}}}},
            MEMBER,
            "quota",
            YELLOW,
        ),
        *("cloud", "the project's quota of volumes is used up", "Delete volumes, or have .*"),
    ),
    "a quota that is not shown": (
        *({"GET /limits": {"limits": {}}}, MEMBER, "quota", YELLOW, "cloud"),
        *("Cinder does not tell how much of its limits is used", "Check the policy .*"),
    ),
    "a service that is down": (
        {"GET /os-services": lambda call: {"services": [UP if call.service == CINDER else DOWN]}},
        *(Keystone("admin"), "services", YELLOW, "cloud"),
        *(
            "nova-compute on node2 is down, by what Nova reports",
            "Start it there, .*; openstack compute service list .*",
        ),
    ),
    "services that are not shown": (
        *({}, MEMBER, "services", GREEN, "cloud"),
        *("which services of Cinder and Nova are down is shown to administrators only", ""),
    ),
    "a server that is off, so not this one": (
        *(
            {"GET /servers/ID": {"server": {**SERVERS["shut off"], "id": ID}}},
            MEMBER,
            "identity",
            RED,
            "cloud",
        ),
        f"this host takes itself for {ID}.*, which does not run: Nova reports SHUTOFF.*",
        f"Check which it is: openstack server show {ID}",
    ),
    "a server of another project": (
        {"GET /servers/ID": refusal("attach to a server that does not exist")},
        *(
            MEMBER,
            "identity",
            RED,
            "cloud",
            f"Nova has no server {ID} in this project",
            ".* or set server_id",
        ),
    ),
    "a Keystone that refuses": (
        *({}, Keystone(error=BackendDenied("Keystone does not accept the credentials: gone", "Check them"))),
        *("credentials", RED, "cloud", "Keystone does not accept the credentials: gone", "Check them"),
    ),
    "a Cinder that does not answer": (
        {"GET /volumes/detail": BackendUnavailable("Cinder did not answer GET /volumes/detail")},
        *(MEMBER, "volumes", RED, "cloud", "Cinder did not answer GET /volumes/detail", "See the log of .*"),
    ),
    "a clock that is ahead": (
        *({}, Keystone("member", ahead_s=3600.0), "clock-skew", YELLOW, "cloud"),
        *(
            "this host's clock is 3600 s ahead of that of OpenStack",
            "Synchronise it: timedatectl set-ntp true",
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_found_with_its_remedy(tmp_path: Path, case: str) -> None:
    answers, keystone, check, level, subject, message, remedy = CASES[case]
    found, _ = await diagnosed(tmp_path, answers, keystone)
    (of_check,) = [each for each in found if each.check == check]
    assert (of_check.level, of_check.subject) == (level, subject)
    assert re.fullmatch(message, of_check.message), of_check.message
    assert re.fullmatch(remedy, of_check.remedy), of_check.remedy


@pytest.mark.parametrize("state", ["creating", "deleting", "detaching", "reserved"])
async def test_a_transition_that_has_just_begun_is_not_stuck(tmp_path: Path, state: str) -> None:
    answers = {"GET /volumes/detail": listed(changed(state, updated_at=LATELY))}
    found, _ = await diagnosed(tmp_path, answers, MEMBER)
    assert [each.level for each in found if each.check == "transitions"] == [GREEN]


async def test_a_volume_that_is_being_deleted_is_no_duplicate(tmp_path: Path) -> None:
    other = changed("deleting", id="7c1f2827-740c-4208-9e83-2f0eaf08d36f")
    found, _ = await diagnosed(tmp_path, {"GET /volumes/detail": listed(changed("available"), other)}, MEMBER)
    assert [each.level for each in found if each.check == "duplicates"] == [GREEN]


async def test_a_host_that_nothing_names_is_told_what_to_set(tmp_path: Path) -> None:
    found, _ = await diagnosed(tmp_path, {}, MEMBER, server_id="")
    levels = {each.check: each.level for each in found}
    assert levels["metadata-service"] is levels["identity"] is RED
    assert "Set server_id" in found[0].remedy


def test_each_check_has_a_case_in_which_it_fails() -> None:
    wrong = {check for _, _, check, level, *_ in CASES.values() if level is not GREEN}
    assert wrong == {*CHECKS, "volumes"} - {"metadata-service"}
