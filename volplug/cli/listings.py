"""`volplug backend`, `volplug node`, `volplug operation` and `volplug events`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from volplug.api.client import LOST, Json
from volplug.cli.arguments import (
    FilterOption,
    FormatOption,
    QuietOption,
    TimeoutOption,
    each_of,
    read_filters,
    session_of,
    show_each,
)
from volplug.cli.formats import Shown
from volplug.cli.tables import Column
from volplug.cli.units import age, human_duration, human_size, seconds_since
from volplug.cli.waiting import wait_for

BACKENDS: Final = typer.Typer(no_args_is_help=True)
NODES: Final = typer.Typer(no_args_is_help=True)
OPERATIONS: Final = typer.Typer(no_args_is_help=True)
_OPERATION_FILTERS: Final = ("volume", "state")
_EVENT_FILTERS: Final = ("volume", "backend", "operation", "kind")


def _took(operation: Json) -> str:
    from datetime import datetime

    ended = operation["ended_at"]
    return human_duration(
        seconds_since(operation["started_at"], datetime.fromisoformat(ended) if ended else None)
    )


def _of_failure(body: Json, key: str) -> str:
    return f"{body[key]['cause']}" if body[key] else ""


_BACKEND_COLUMNS: Final = (
    Column("NAME", lambda backend: backend["name"] + (" *" if backend["is_default"] else "")),
    Column("DRIVER", lambda backend: backend["driver"]),
    Column("SCOPE", lambda backend: backend["scope"]),
    Column("HEALTH", lambda backend: "unusable" if backend["problem"] else "usable"),
    Column(
        "VOLUMES", lambda backend: "" if backend["volume_count"] is None else str(backend["volume_count"])
    ),
    Column("NODE ID", lambda backend: backend["node_id"] or ""),
    Column("SIZES", lambda backend: _sizes(backend["sizes"]), is_wide=True),
    Column("LIMITS", lambda backend: _limits(backend["limits"] or ()), is_wide=True),
    Column("PROBLEM", lambda backend: _of_failure(backend, "problem"), is_wide=True),
)
_NODE_COLUMNS: Final = (
    Column("ID", lambda node: node["id"]),
    Column("VERSION", lambda node: node["version"]),
    Column("ENGINE", lambda node: "connected" if node["has_engine"] else "none yet"),
    Column("IN USE", lambda node: str(node["volumes_in_use"])),
    Column("ATTACHED", lambda node: str(node["volumes_attached"])),
    Column("OPERATIONS", lambda node: str(node["operations_running"])),
    Column(
        "NODE IDS",
        lambda node: ", ".join(f"{key}={value}" for key, value in node["node_ids"].items()),
        is_wide=True,
    ),
)
OPERATION_COLUMNS: Final = (
    Column("ID", lambda operation: operation["id"]),
    Column("KIND", lambda operation: operation["kind"]),
    Column("VOLUME", lambda operation: operation["volume"], is_long=True),
    Column("ORIGIN", lambda operation: operation["origin"]),
    Column("STATE", lambda operation: operation["state"]),
    Column("STARTED", lambda operation: age(operation["started_at"])),
    Column("TOOK", _took, is_wide=True),
    Column("PHASE", lambda operation: operation["phase"], is_wide=True),
    Column("FAILURE", lambda operation: _of_failure(operation, "failure"), is_wide=True),
)


def _sizes(sizes: Json) -> str:
    least, most = human_size(sizes["minimum_size_bytes"]), human_size(sizes["maximum_size_bytes"])
    return f"{least} to {most}, {human_size(sizes['default_size_bytes'])} by default"


def _limits(limits: Sequence[Json]) -> str:
    return ", ".join(f"{each['name']} {_quantity(each)}" for each in limits)


def _quantity(limit: Json) -> str:
    shown = human_size if limit["unit"] == "bytes" else str
    most = "unlimited" if limit["maximum"] is None else shown(limit["maximum"])
    return f"{shown(limit['used'])} of {most}"


@BACKENDS.command("ls", epilog="Example: volplug backend ls --format wide")
def list_backends(context: typer.Context, chosen: FormatOption = "table", quiet: QuietOption = False) -> None:
    """List backends and whether they can be used; * marks the default one."""
    session = session_of(context)
    shown = Shown("{{.name}}" if quiet else chosen, _BACKEND_COLUMNS, session.terminal)
    shown.list(session.client.get("backends")["backends"])


@BACKENDS.command("inspect", epilog="Example: volplug backend inspect --format '{{json .Options}}' loop")
def inspect_backends(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="BACKEND", hidden=True)],
    chosen: FormatOption = "json",
) -> None:
    """Show backends: health, sizes, the options of their volumes."""
    session = session_of(context)
    shown = Shown(chosen, _BACKEND_COLUMNS, session.terminal)
    show_each(session, shown, "inspect", names, lambda name: session.client.get("backends", name))


@NODES.command("ls", epilog="Example: volplug node ls --format json")
def list_nodes(context: typer.Context, chosen: FormatOption = "table", quiet: QuietOption = False) -> None:
    """List nodes: the one that is asked."""
    session = session_of(context)
    shown = Shown("{{.id}}" if quiet else chosen, _NODE_COLUMNS, session.terminal)
    shown.list(session.client.get("nodes")["nodes"])


@NODES.command("rm", epilog="Example: volplug node rm node3")
def remove_nodes(
    context: typer.Context, names: Annotated[list[str], typer.Argument(metavar="NODE", hidden=True)]
) -> None:
    """Remove nodes from the cluster: their certificates are accepted by no other node any more."""
    session = session_of(context)

    def remove(name: str) -> None:
        session.client.delete("cluster", "nodes", name)
        session.terminal.write(name)

    each_of(session, "remove", names, remove)


@OPERATIONS.command("ls", epilog="Example: volplug operation ls --filter state=running")
def list_operations(
    context: typer.Context,
    filters: FilterOption = None,
    chosen: FormatOption = "table",
    quiet: QuietOption = False,
) -> None:
    """List operations that run, and those that have ended lately. Filters: volume, state."""
    session = session_of(context)
    shown = Shown("{{.id}}" if quiet else chosen, OPERATION_COLUMNS, session.terminal)
    query = read_filters(filters, _OPERATION_FILTERS)
    shown.list(list(session.client.pages("operations", **query)))


_Ids = Annotated[list[str], typer.Argument(metavar="OPERATION", hidden=True)]


@OPERATIONS.command(
    "watch", epilog="Example: volplug operation watch $(volplug volume rm --no-wait todolist)"
)
def watch(context: typer.Context, ids: _Ids, timeout: TimeoutOption = None) -> None:
    """Wait for the end of operations; the exit code tells how they ended."""
    session = session_of(context)

    def wait(operation_id: str) -> None:
        wait_for(session, session.client.operation(operation_id, 0), timeout)
        session.terminal.write(operation_id)

    each_of(session, "watch", ids, wait)


@OPERATIONS.command("cancel", epilog="Example: volplug operation cancel 3f2a9c1e-12")
def cancel(context: typer.Context, ids: _Ids) -> None:
    """End operations that were started through the control API, before their next step."""
    session = session_of(context)

    def end(operation_id: str) -> None:
        session.client.post("operations", operation_id, "cancel")
        session.terminal.write(operation_id)

    each_of(session, "cancel", ids, end)


def events(
    context: typer.Context,
    filters: FilterOption = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Show what happens, or what is known, and end.")
    ] = True,
    chosen: FormatOption = "table",
) -> None:
    """Show events as they happen, until ^C. Filters: volume, backend, operation, kind."""
    session = session_of(context)
    shown = Shown(chosen, (), session.terminal)
    query = read_filters(filters, _EVENT_FILTERS)
    for event in session.client.events(kept=not stream, **query):
        if event["kind"] == LOST:
            session.terminal.tell("volplug: some events before the next one are not known any more")
        else:
            shown.one(event, _event_line)


def _event_line(event: Json) -> str:
    fields = [f"{key}={value}" for key, value in event["fields"].items()]
    words = (event["at"], event["kind"], event["volume"], event["text"], *fields)
    return "".join(char if char.isprintable() else " " for char in " ".join(word for word in words if word))
