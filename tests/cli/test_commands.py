"""What each command does, on volumes in memory."""

import asyncio
import json
import re
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Cli
from tests.volumes.world import World
from volplug import __version__
from volplug.cli.main import APP
from volplug.errors import BackendUnavailable
from volplug.sizes import GIB

pytestmark = pytest.mark.cli


async def test_a_volume_is_created_listed_inspected_and_deleted(served: World, cli: Cli) -> None:
    assert await cli("volume", "create", "--size", "2GiB", "-o", "fs=xfs", "db") == (0, "db\n", "")
    assert await cli("volume", "create", "--size", "2GiB", "-o", "fs=xfs", "db") == (0, "db\n", "")
    assert (served.volume("db").size_bytes, served.volume("db").spec.fs_type) == (2 * GIB, "xfs")
    assert (await cli("volume", "ls", "-q")).out == "db\n"
    (shown,) = json.loads((await cli("volume", "inspect", "memory/db")).out)
    assert shown == json.loads((await cli("volume", "ls", "--format", "json")).out)[0]
    assert [shown] == yaml.safe_load((await cli("volume", "inspect", "-o", "yaml", "db")).out)
    assert (await cli("volume", "inspect", "-o", "{{.Name}} {{.State}}", "db")).out == "db available\n"
    assert await cli("volume", "rm", "memory/db") == (0, "memory/db\n", "")
    assert (await cli("volume", "ls")).out == "NAME   STATE   SIZE   HOLDER   CREATED\n"


async def test_lists_are_filtered_and_paged(
    furnished: World, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volplug.api.client._PAGE", 1)
    assert (await cli("volume", "ls", "-q", "-f", "state=in-use")).out == "elsewhere\ntodolist\n"
    assert (await cli("volume", "ls", "-q", "-f", "name=o", "-f", "backend=memory")).out.count("\n") == 3
    assert (await cli("operation", "ls", "-o", "{{.Kind}}", "-f", "volume=todolist")).out == "mount\ncreate\n"
    wide = (await cli("volume", "ls", "--format", "wide")).out.splitlines()
    assert re.search(r"^todolist +in-use +10GiB +node-a +30 hours ago +memory +mem-\w+ +xfs +1$", wide[4])
    assert wide[2].endswith("the cloud lost it")


async def test_of_several_names_all_are_tried_and_the_first_error_decides(furnished: World, cli: Cli) -> None:
    done = await cli("volume", "rm", "nope", "todolist", "elsewhere", "a/b/c")
    assert (done.code, done.out) == (3, "")
    lines = done.err.splitlines()
    assert lines[0] == 'volplug: no such volume [rm "nope"]. volplug volume ls lists those that exist.'
    assert 'mounted for Docker 0 s ago and not unmounted [delete "todolist"]' in lines[1]
    assert lines[3] == "volplug: 'a/b/c' names no volume [rm \"a/b/c\"]. Write NAME or BACKEND/NAME."
    assert len(lines) == 4
    shown = await cli("volume", "inspect", "nope", "todolist")
    assert (shown.code, [each["name"] for each in json.loads(shown.out)]) == (3, ["todolist"])
    assert await cli("volume", "rm", "--force", "nope") == (0, "", "")


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("volume rm todolist", 4, "not unmounted"),
        ("volume release todolist", 4, "the volume is mounted for c1"),
        ("volume create --size 5GiB todolist", 1, "exists"),
        ("volume create -o fs=ntfs new", 2, "unknown filesystem"),
        ("volume create --size 5 --opt size=6 new", 2, "the option size is given twice"),
        ("volume create bad/name", 2, "name"),
        ("volume create --backend none new", 2, "none"),
        ("volume ls --filter state=nonsense", 2, "state"),
        ("volume ls --filter size=1", 2, "Filters are backend, name, state"),
        ("volume ls --format nonsense", 2, "there is no format 'nonsense'"),
        ("volume takeover elsewhere", 4, "i-0a1b2c3d4e5f60718"),
        ("backend inspect --format {{.Name}} none", 3, "volplug backend ls lists"),
        ("operation watch none", 3, "volplug operation ls lists"),
        ("operation cancel none", 3, "volplug operation ls lists"),
        ("context use none", 3, "there is no context 'none'"),
        ("volume", 2, "Usage: volplug volume"),
        ("volume rm", 2, "missing argument 'VOLUME'. See volplug volume rm --help."),
        ("volume nonsense", 2, "unknown command. See volplug volume --help."),
        ("volume ls --nonsense", 2, "no such option: --nonsense"),
        ("nonsense", 2, "unknown command"),
        ("volume rm --timeout -1 db", 2, "--timeout"),
        ("completion tcsh", 2, "there is no completion for 'tcsh'"),
        ("--host /run/x volume ls", 2, "the host '/run/x' cannot be read"),
        ("--host tcp://a volume ls", 2, "the host 'tcp://a' cannot be read"),
        ("--host tcp://a:1 --token-file /none volume ls", 2, "the file of the token /none cannot be read"),
    ],
)
async def test_what_fails_says_why_in_one_line_and_by_its_exit_code(
    furnished: World, cli: Cli, command: str, code: int, told: str
) -> None:
    done = await cli(*command.split())
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert done.err.startswith("Usage: ") or (done.err.startswith("volplug: ") and done.err.count("\n") == 1)


async def test_what_a_takeover_would_do_is_told(furnished: World, cli: Cli) -> None:
    lines = (await cli("volume", "takeover", "--dry-run", "elsewhere")).out.splitlines()
    assert lines[0].split() == ["VOLUME", "HOLDER", "NODE", "OUTCOME", "EVIDENCE"]
    assert lines[1].split()[:4] == ["elsewhere", "i-0a1b2c3d4e5f60718", "alive", "refuse"]
    furnished.cloud.dead_nodes.add("i-0a1b2c3d4e5f60718")
    assert (
        await cli("volume", "takeover", "--dry-run", "-o", "{{.Outcome}}", "elsewhere")
    ).out == "take over\n"
    assert furnished.volume("elsewhere").holder == "i-0a1b2c3d4e5f60718"
    assert await cli("volume", "takeover", "elsewhere") == (0, "elsewhere\n", "")
    assert furnished.volume("elsewhere").holder is None


async def test_the_options_of_a_creation_are_listed(served: World, cli: Cli) -> None:
    done = await cli("volume", "create", "-o", "help", "x")
    assert (done.code, done.err) == (0, "")
    assert "options of driver" in done.out
    assert (await cli("volume", "ls", "-q")).out == ""


async def test_an_operation_is_left_watched_and_cancelled(served: World, cli: Cli) -> None:
    gate = served.driver.hold("get")  # before the first step
    started = await cli("volume", "create", "--no-wait", "db")
    assert (started.code, started.err) == (0, "")
    await gate.reached.wait()
    operation = started.out.strip()
    assert (await cli("operation", "ls", "-q", "-f", "state=running")).out == f"{operation}\n"
    late = await cli("operation", "watch", "--timeout", "0.01", operation)
    assert (late.code, late.out) == (7, "")
    assert f"operation {operation} has not ended within 0.01 s, and continues" in late.err
    assert await cli("operation", "cancel", operation) == (0, f"{operation}\n", "")
    gate.opened.set()
    ended = await cli("operation", "watch", operation)
    assert ended.code == 1
    assert "cancelled through the control API" in ended.err
    assert (await cli("operation", "cancel", operation)).code == 1


async def test_phases_are_lines_where_no_terminal_is(
    served: World, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volplug.cli.waiting._LOOK_S", 0.01)
    gate = served.driver.hold("create")
    running = asyncio.ensure_future(cli("volume", "create", "db"))
    await gate.reached.wait()
    (operation,) = served.node.operations.running
    await served.node.operations.wait(operation.operation_id, 0.2)
    gate.opened.set()
    assert await running == (0, "db\n", "create db: create\n")


async def test_backends_nodes_and_versions_are_shown(furnished: World, cli: Cli) -> None:
    backends = (await cli("backend", "ls")).out.splitlines()
    assert backends[1].split() == ["memory", "*", "memory", "global", "usable", "4", "node-a"]
    furnished.cloud.outage = BackendUnavailable("no answer", "Wait")
    assert (await cli("backend", "ls", "-o", "{{.Health}} {{.Problem.Cause}}")).out == "unusable no answer\n"
    furnished.cloud.outage = None
    (shown,) = json.loads((await cli("backend", "inspect", "memory")).out)
    assert shown["sizes"]["default_size_bytes"] == GIB
    assert "volumes 4 of unlimited" in (await cli("backend", "ls", "-o", "wide")).out
    (node,) = json.loads((await cli("node", "ls", "--format", "json")).out)
    assert (await cli("node", "ls", "-q")).out == f"{node['id']}\n"
    assert (await cli("version")).out.split() == ["CLIENT", "SERVER", __version__, __version__]
    assert (await cli("--version")).out == f"volplug {__version__}\n"


async def test_known_events_are_listed_a_line_each(furnished: World, cli: Cli) -> None:
    lines = (
        await cli("events", "--no-stream", "-f", "volume=todolist", "-f", "kind=change")
    ).out.splitlines()
    assert re.fullmatch(r"\S+Z change todolist volume created .*", lines[0])
    events: list[dict[str, Any]] = [
        json.loads(line) for line in (await cli("events", "--no-stream", "-o", "json")).out.splitlines()
    ]
    assert len(events) > len(lines)
    assert {event["kind"] for event in events} >= {"change", "operation"}


async def test_contexts_name_places(served: World, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    host = os.environ["VOLPLUG_HOST"]
    monkeypatch.delenv("VOLPLUG_HOST")
    assert (await cli("context", "create", "mine", "--host", host)).out == "mine\n"
    assert (await cli("volume", "ls")).code == 5  # not in use yet
    assert (await cli("--context", "mine", "volume", "ls")).code == 0
    assert (await cli("context", "use", "mine")).code == 0
    assert (await cli("volume", "ls")).code == 0
    assert [line.split()[:2] for line in (await cli("context", "ls")).out.splitlines()] == [
        ["NAME", "HOST"],
        ["default", "this"],
        ["mine", "*"],
    ]
    assert (await cli("--host", "unix:///none", "volume", "ls")).code == 5
    assert "is in use" in (await cli("context", "rm", "mine")).err
    assert (await cli("context", "use", "default")).code == 0
    assert (await cli("context", "rm", "mine")).code == 0
    assert (await cli("context", "ls", "-q")).out == "default\n"
    assert (await cli("context", "create", "default", "--host", host)).code == 2


def _commands(app: Any, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:  # noqa: ANN401  # of typer
    names = [(*words, each.name or each.callback.__name__) for each in app.registered_commands]
    below = [
        found
        for group in app.registered_groups
        for found in _commands(group.typer_instance, (*words, group.name))
    ]
    return names + below


@pytest.mark.parametrize("words", _commands(APP), ids=" ".join)
async def test_every_help_has_an_example_of_its_command(cli: Cli, words: tuple[str, ...]) -> None:
    done = await cli(*words, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: volplug {' '.join(words)}" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
