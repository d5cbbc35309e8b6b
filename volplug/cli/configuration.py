"""`volplug config` and `volplug context`: the settings of this host's volplug, and places of others."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from volplug.api.client import Json
from volplug.api.client_errors import UsageError
from volplug.cli.arguments import FormatOption, QuietOption, session_of
from volplug.cli.contexts import (
    DEFAULT,
    Contexts,
    Place,
    contexts_file,
    read_contexts,
    without,
    write_contexts,
)
from volplug.cli.exits import ExitCode
from volplug.cli.formats import Shown
from volplug.cli.session import endpoint_of
from volplug.cli.tables import Column
from volplug.masking import MASK, masked

if TYPE_CHECKING:
    from volplug.config import Settings

CONFIG: Final = typer.Typer(no_args_is_help=True)
CONTEXTS: Final = typer.Typer(no_args_is_help=True)
_SECRET: Final = re.compile(r"secret|password|passwd|token|access_key|credential", re.IGNORECASE)
_TAKES_FLAGS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", re.ASCII)
_SETTING_COLUMNS: Final = (
    Column("SETTING", lambda setting: setting["name"]),
    Column("VALUE", lambda setting: setting["value"], is_long=True),
    Column("FROM", lambda setting: setting["from"]),
)
_CONTEXT_COLUMNS: Final = (
    Column("NAME", lambda context: context["name"] + (" *" if context["is_current"] else "")),
    Column("HOST", lambda context: context["host"] or "this host"),
    Column("TOKEN FILE", lambda context: context["token_file"]),
    Column("TLSCACERT", lambda context: context["tlscacert"], is_wide=True),
    Column("TLSCERT", lambda context: context["tlscert"], is_wide=True),
    Column("TLSKEY", lambda context: context["tlskey"], is_wide=True),
)


@CONFIG.command(
    "show",
    epilog="Example: volplug config show --config /etc/volplug/config.toml",
    context_settings=_TAKES_FLAGS,
)
def show(context: typer.Context, chosen: FormatOption = "table") -> None:
    """Show every setting that volplug serve would have here, and where its value comes from.

    Takes the flags of volplug serve, and reads the same variables and file. Secrets are not shown.
    """
    session = session_of(context)
    settings, mistakes = settings_shown(context.args)
    Shown(chosen, _SETTING_COLUMNS, session.terminal).list(settings)
    for mistake in mistakes:
        session.terminal.tell(f"volplug: {mistake}")
    raise typer.Exit(ExitCode.FAILED if mistakes else ExitCode.DONE)


def settings_shown(arguments: Sequence[str]) -> tuple[list[Json], list[str]]:
    """Return every setting with its value and where that comes from, without secrets; and the mistakes."""
    from volplug.config import TABLES, Settings, default_text, read_settings
    from volplug.config.flags import read_flags

    flags, mistakes = read_flags(arguments)
    read = read_settings(flags)
    settings = read.settings
    shown = []
    for name in Settings.model_fields:
        if name in TABLES:
            shown += _of_tables(name, getattr(settings, name), settings.file)
        elif name in settings.model_fields_set:
            shown.append(_setting(name, getattr(settings, name), _origin(settings, name)))
        else:
            shown.append(_setting(name, default_text(name), "default"))
    return shown, [str(mistake) for mistake in (*mistakes, *read.mistakes)]


def _of_tables(table: str, entries: dict[str, object], file: str) -> list[Json]:
    from pydantic import BaseModel

    return [
        _setting(f"{table}.{entry}.{key}", value, f"file {file}")
        for entry, values in entries.items()
        for key, value in (values.model_dump() if isinstance(values, BaseModel) else dict(values)).items()  # type: ignore[call-overload]
    ]


def _setting(name: str, value: object, origin: str) -> Json:
    is_secret = _SECRET.search(name.rpartition(".")[2]) is not None and not name.endswith("_file")
    return {"name": name, "value": MASK if is_secret and value else masked(str(value)), "from": origin}


def _origin(settings: Settings, name: str) -> str:
    place = settings.place(name)
    return place if place.startswith(("flag ", "variable ")) else f"file {settings.file}"


@CONFIG.command("check", epilog="Example: volplug config check --linger-s 10", context_settings=_TAKES_FLAGS)
def check(context: typer.Context) -> None:
    """Tell all mistakes in flags, environment and file; the same as volplug check-config."""
    from volplug.config import checks
    from volplug.config.flags import read_flags

    mistakes, report = checks.check(*read_flags(context.args))
    session_of(context).terminal.write(report)
    raise typer.Exit(ExitCode.FAILED if mistakes else ExitCode.DONE)


@CONTEXTS.command("create", epilog="Example: volplug context create prod --host tcp://node1.example.com:8443")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    host: Annotated[str, typer.Option("--host", metavar="URL", help="unix://PATH or tcp://HOST:PORT.")],
    token_file: Annotated[str, typer.Option("--token-file", metavar="FILE")] = "",
    tlscacert: Annotated[str, typer.Option("--tlscacert", metavar="FILE")] = "",
    tlscert: Annotated[str, typer.Option("--tlscert", metavar="FILE")] = "",
    tlskey: Annotated[str, typer.Option("--tlskey", metavar="FILE")] = "",
) -> None:
    """Name a place, with the files that it needs; what is in them is not copied."""
    if _NAME.fullmatch(name) is None or name == DEFAULT:
        raise UsageError(f"the name {name!r} is not allowed for a context", "Use a-z A-Z 0-9 _ . -")
    files = [os.path.abspath(path) if path else "" for path in (token_file, tlscacert, tlscert, tlskey)]
    place = Place(host, *files)
    endpoint_of(place)
    contexts = read_contexts(contexts_file())
    write_contexts(contexts_file(), Contexts(contexts.current, {**contexts.places, name: place}))
    session_of(context).terminal.write(name)


@CONTEXTS.command("ls", epilog="Example: volplug context ls")
def list_contexts(context: typer.Context, chosen: FormatOption = "table", quiet: QuietOption = False) -> None:
    """List contexts; * marks the one in use."""
    terminal = session_of(context).terminal
    contexts = read_contexts(contexts_file())
    shown = Shown("{{.name}}" if quiet else chosen, _CONTEXT_COLUMNS, terminal)
    shown.list([_context(name, contexts) for name in (DEFAULT, *sorted(contexts.places))])


def _context(name: str, contexts: Contexts) -> Json:
    from dataclasses import asdict

    return {"name": name, "is_current": name == contexts.current, **asdict(contexts.place(name))}


@CONTEXTS.command("use", epilog="Example: volplug context use default")
def use(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)]) -> None:
    """Use a context from now on; default is this host."""
    contexts = read_contexts(contexts_file())
    contexts.place(name)
    write_contexts(contexts_file(), Contexts(name, contexts.places))
    session_of(context).terminal.write(name)


@CONTEXTS.command("rm", epilog="Example: volplug context rm prod")
def remove(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)]) -> None:
    """Remove a context that is not in use."""
    write_contexts(contexts_file(), without(read_contexts(contexts_file()), name))
    session_of(context).terminal.write(name)
