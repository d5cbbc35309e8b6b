"""`volplug volume`: Docker's verbs for volumes, and those that Docker lacks."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from volplug.api.client import Json
from volplug.api.client_errors import UsageError
from volplug.cli.arguments import (
    FilterOption,
    FormatOption,
    QuietOption,
    SelectorsArgument,
    TimeoutOption,
    WaitOption,
    each_of,
    path_of,
    read_filters,
    session_of,
    show_each,
)
from volplug.cli.formats import Shown
from volplug.cli.tables import Column
from volplug.cli.units import age, human_size
from volplug.cli.waiting import finish
from volplug.errors import OptionHelp, VolumeNotFound

VOLUMES: Final = typer.Typer(no_args_is_help=True)
_FILTERS: Final = ("backend", "name", "state")


def _size(volume: Json) -> str:
    return human_size(volume["size_bytes"]) if volume["size_bytes"] else ""


def _used(volume: Json) -> str:
    usage = volume["usage"]
    return human_size(usage["used_bytes"]) if usage else ""


def _problem(volume: Json) -> str:
    failure = volume["failure"]
    return volume["detail"] or (f"{failure['operation']}: {failure['cause']}" if failure else "")


COLUMNS: Final = (
    Column("NAME", lambda volume: volume["name"], is_long=True),
    Column("STATE", lambda volume: volume["state"]),
    Column("SIZE", _size),
    Column("HOLDER", lambda volume: volume["holder"] or ""),
    Column("CREATED", lambda volume: age(volume["created_at"])),
    Column("BACKEND", lambda volume: volume["backend"], is_wide=True),
    Column("ID", lambda volume: volume["id"], is_wide=True),
    Column("FS", lambda volume: volume["filesystem"], is_wide=True),
    Column("USED", _used, is_wide=True),
    Column("MOUNTS", lambda volume: str(volume["mount_count"]), is_wide=True),
    Column("PROBLEM", _problem, is_wide=True),
)
_PLAN: Final = (
    Column("VOLUME", lambda plan: plan["volume"]),
    Column("HOLDER", lambda plan: plan["holder"] or ""),
    Column("NODE", lambda plan: plan["state"]),
    Column("OUTCOME", lambda plan: plan["outcome"]),
    Column("EVIDENCE", lambda plan: plan["evidence"], is_long=True),
    Column("REMEDY", lambda plan: plan["remedy"], is_wide=True),
)


@VOLUMES.command(epilog="Example: volplug volume create --size 10GiB --opt profile=fast todolist")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    backend: Annotated[
        str, typer.Option("--backend", metavar="BACKEND", help="Where; by default the default backend.")
    ] = "",
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="At least, such as 10GiB.")] = "",
    opt: Annotated[
        list[str] | None,
        typer.Option(
            "--opt", "-o", metavar="KEY=VALUE", help="As of docker volume create; -o help lists them."
        ),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
) -> None:
    """Create a volume. One that exists and is the same is success."""
    session = session_of(context)
    body: Json = {"name": name, "options": _read_options(opt or [], size)}
    if backend:
        body["backend"] = backend
    operation = session.client.start("POST", "volumes", body=body)
    try:
        finish(session, operation, [name], wait=wait, timeout_s=timeout)
    except OptionHelp as shown:  # which is what was asked for
        session.terminal.write(shown.cause)


def _read_options(written: list[str], size: str) -> dict[str, str]:
    options: dict[str, str] = {"size": size} if size else {}
    for each in written:
        key, _, value = each.partition("=")
        if key in options:
            raise UsageError(f"the option {key} is given twice")
        options[key] = value
    return options


@VOLUMES.command(epilog="Example: volplug volume ls --filter state=in-use --format wide")
def ls(
    context: typer.Context,
    filters: FilterOption = None,
    chosen: FormatOption = "table",
    quiet: QuietOption = False,
) -> None:
    """List volumes. Filters: backend, name (any part of it), state."""
    session = session_of(context)
    shown = Shown("{{.Name}}" if quiet else chosen, COLUMNS, session.terminal)
    shown.list(list(session.client.pages("volumes", **read_filters(filters, _FILTERS))))


@VOLUMES.command(epilog="Example: volplug volume inspect --format '{{.State}} {{.Holder}}' todolist")
def inspect(context: typer.Context, volumes: SelectorsArgument, chosen: FormatOption = "json") -> None:
    """Show all that is known of volumes."""
    session = session_of(context)
    shown = Shown(chosen, COLUMNS, session.terminal)
    show_each(session, shown, "inspect", volumes, lambda selector: session.client.get(*path_of(selector)))


@VOLUMES.command(epilog="Example: volplug volume rm todolist")
def rm(
    context: typer.Context,
    volumes: SelectorsArgument,
    force: Annotated[bool, typer.Option("--force", "-f", help="One that does not exist is success.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
) -> None:
    """Delete volumes that are not in use, and their data."""
    session = session_of(context)

    def remove(selector: str) -> None:
        try:
            operation = session.client.start("DELETE", *path_of(selector))
        except VolumeNotFound:
            if not force:
                raise
        else:
            finish(session, operation, [selector], wait=wait, timeout_s=timeout)

    each_of(session, "rm", volumes, remove)


@VOLUMES.command(epilog="Example: volplug volume takeover --dry-run todolist")
def takeover(
    context: typer.Context,
    volumes: SelectorsArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; tell what would be done, and why.")
    ] = False,
    chosen: FormatOption = "table",
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
) -> None:
    """Take volumes from a node that is proven dead. They are attached nowhere afterwards."""
    session = session_of(context)

    def plan(selector: str) -> Json:
        return session.client.post(*path_of(selector), "takeover", body={"dry_run": True})

    if dry_run:
        shown = Shown(chosen, _PLAN, session.terminal)
        show_each(session, shown, "takeover", volumes, plan)
        return

    def take_over(selector: str) -> None:
        operation = session.client.start("POST", *path_of(selector), "takeover", body={})
        finish(session, operation, [selector], wait=wait, timeout_s=timeout)

    each_of(session, "takeover", volumes, take_over)


@VOLUMES.command(epilog="Example: volplug volume release todolist")
def release(
    context: typer.Context,
    volumes: SelectorsArgument,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
) -> None:
    """Detach volumes now that stay attached for a while after their last unmount."""
    session = session_of(context)

    def detach(selector: str) -> None:
        operation = session.client.start("POST", *path_of(selector), "release")
        finish(session, operation, [selector], wait=wait, timeout_s=timeout)

    each_of(session, "release", volumes, detach)
