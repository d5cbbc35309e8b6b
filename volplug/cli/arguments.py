"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import typer

from volplug.api.client import Json
from volplug.api.client_errors import UsageError
from volplug.cli.exits import ExitCode, exit_code_of, told
from volplug.cli.formats import Shown
from volplug.cli.session import Session
from volplug.errors import ErrorContext, VolplugError

FormatOption = Annotated[
    str,
    typer.Option(
        "--format", "-o", metavar="FORMAT", help="table, wide, json, yaml, or a template: '{{.Name}}'."
    ),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", metavar="KEY=VALUE", help="Show only what matches. May be repeated."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show only names or ids.")]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the end, or print the operation's id at once.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait. The operation continues."),
]
SelectorsArgument = Annotated[list[str], typer.Argument(metavar="VOLUME", hidden=True)]


def session_of(context: typer.Context) -> Session:
    """Return the session of this run."""
    session: Session = context.obj
    return session


def read_filters(filters: Iterable[str] | None, known: Sequence[str]) -> dict[str, str]:
    """Return filters as a query of the API.

    Raises:
        UsageError: If one is not KEY=VALUE, or not known.
    """
    query: dict[str, str] = {}
    for each in filters or ():
        key, equals, value = each.partition("=")
        if key not in known or not equals or not value:
            raise UsageError(f"there is no filter {each!r}", f"Filters are {', '.join(known)}: KEY=VALUE")
        if key in query:
            raise UsageError(f"the filter {key} is given twice")
        query[key] = value
    return query


def path_of(selector: str) -> tuple[str, ...]:
    """Return the path of a volume below /v1.

    Raises:
        UsageError: If it is neither NAME nor BACKEND/NAME.
    """
    parts = selector.split("/")
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"{selector!r} names no volume", "Write NAME or BACKEND/NAME")
    return ("volumes", *parts)


def each_of(session: Session, verb: str, names: Sequence[str], act: Callable[[str], None]) -> None:
    """Do the same for all names, also behind one for which it fails; the first error is the command's.

    Args:
        session: Of this run.
        verb: What is done, for errors.
        names: Of volumes, or of what else it is done to.
        act: Does it.

    Raises:
        Exit: If it failed for one; the errors have been told.
    """
    codes: list[ExitCode] = []
    for name in names:
        try:
            act(name)
        except VolplugError as error:
            session.terminal.tell(told(error.in_context(ErrorContext(verb, name))))
            codes.append(exit_code_of(error))
    if codes:
        raise typer.Exit(codes[0])


def show_each(
    session: Session, shown: Shown, verb: str, names: Sequence[str], find: Callable[[str], Json]
) -> None:
    """Show what is found of several names.

    Raises:
        Exit: With the exit code of the first that is not.
    """
    found: list[Json] = []
    try:
        each_of(session, verb, names, lambda name: found.append(find(name)))
    finally:
        if found or not shown.is_table:
            shown.list(found)
