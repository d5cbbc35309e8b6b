"""The commands for people: builds them, runs one, and turns what it raises into a line and an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import typer

from volplug import __version__
from volplug.api.client_errors import UsageError
from volplug.cli.arguments import FormatOption, session_of
from volplug.cli.cluster import CLUSTER
from volplug.cli.configuration import CONFIG, CONTEXTS
from volplug.cli.contexts import Place
from volplug.cli.exits import ExitCode, exit_code_of, told
from volplug.cli.formats import Shown
from volplug.cli.listings import BACKENDS, NODES, OPERATIONS, events
from volplug.cli.logs import LOGS
from volplug.cli.session import Session
from volplug.cli.tables import Column
from volplug.cli.volumes import VOLUMES
from volplug.cli.waiting import LeftRunning
from volplug.errors import VolplugError

_HOST_COMMANDS: Final = (
    "On the host of a volplug: volplug serve, volplug doctor, volplug check-config (the same as "
    "volplug config check), volplug make-token; each has --help."
)
_UNKNOWN_COMMAND: Final = re.compile(r"^No such command '.*?'(\. Did you mean .*)?$", re.DOTALL)
_SHELLS: Final = ("bash", "zsh", "fish")
_COMPLETE_VARIABLE: Final = "_VOLPLUG_COMPLETE"  # of typer; shells set it as well
APP: Final = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _group, _about in (
    ("volume", VOLUMES, "Create, list, delete, take over and release volumes."),
    ("backend", BACKENDS, "The storage that volumes are on."),
    ("node", NODES, "The hosts that use volumes."),
    ("cluster", CLUSTER, "Begin, join and leave a cluster of hosts."),
    ("operation", OPERATIONS, "Work on volumes, in progress and ended."),
    ("config", CONFIG, "The settings of a volplug that is started here."),
    ("context", CONTEXTS, "Names for places of volplug."),
    ("logs", LOGS, "What a maintainer needs."),
):
    APP.add_typer(_group, name=_name, help=_about)
APP.command("events", epilog="Example: volplug events --filter volume=todolist")(events)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    if _COMPLETE_VARIABLE in os.environ:
        _complete()
    try:
        code = APP(list(arguments), prog_name="volplug", standalone_mode=False)
    except LeftRunning as left:
        return _failed(
            f"volplug: interrupted, and operation {left.operation_id} continues. "
            f"Wait for it by volplug operation watch {left.operation_id}, or end it by operation cancel.",
            ExitCode.INTERRUPTED,
        )
    except VolplugError as error:
        return _failed(told(error), exit_code_of(error))
    except typer.TyperException as error:
        return _failed(_told_usage(error), ExitCode.USAGE)
    except BrokenPipeError:  # its reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed
        return ExitCode.DONE
    return code if isinstance(code, int) else ExitCode.DONE


def _complete() -> NoReturn:
    """Answer a shell that completes a command, or print the script that makes it ask."""
    # Typer registers its shells only together with options, in place of which there is a command here.
    from typer._completion_classes import completion_init

    completion_init()
    APP([], prog_name="volplug")
    raise SystemExit(ExitCode.DONE)


def _failed(line: str, code: ExitCode) -> int:
    sys.stderr.write(f"{line}\n")
    return code


def _told_usage(error: typer.TyperException) -> str:
    """Return the line that tells a mistake in the command, or its help if only a group is named."""
    context = getattr(error, "ctx", None)  # only errors of usage have one
    command = context.command_path if context is not None else "volplug"
    # The word may be the value of an unknown flag, and a secret.
    message = _UNKNOWN_COMMAND.sub(r"unknown command\1", error.format_message().rstrip("."))
    if "\n" in message:
        return message
    return told(UsageError(message[:1].lower() + message[1:], f"See {command} --help"))


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"volplug {__version__}\n")
        raise typer.Exit


@APP.callback(epilog=_HOST_COMMANDS)
def _globals(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            "--host", "-H", envvar="VOLPLUG_HOST", metavar="URL", help="unix://PATH or tcp://HOST:PORT."
        ),
    ] = "",
    context_name: Annotated[
        str,
        typer.Option("--context", "-c", envvar="VOLPLUG_CONTEXT", metavar="NAME", help="Instead of a host."),
    ] = "",
    token_file: Annotated[
        str, typer.Option("--token-file", envvar="VOLPLUG_TOKEN_FILE", metavar="FILE", help="For tcp://.")
    ] = "",
    tlscacert: Annotated[
        str, typer.Option("--tlscacert", envvar="VOLPLUG_TLSCACERT", metavar="FILE", help="Whom to trust.")
    ] = "",
    tlscert: Annotated[
        str, typer.Option("--tlscert", envvar="VOLPLUG_TLSCERT", metavar="FILE", help="What to show.")
    ] = "",
    tlskey: Annotated[
        str, typer.Option("--tlskey", envvar="VOLPLUG_TLSKEY", metavar="FILE", help="Its key.")
    ] = "",
    version: Annotated[
        bool,
        typer.Option("--version", "-v", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Docker volumes that follow their containers.

    Without --host, the volplug of this host is asked: /run/volplug/control.sock, or the managed plugin's
    /var/lib/volplug/control.sock. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 in use, 5 daemon
    unreachable, 6 denied, 7 wait timed out.
    """
    context.obj = session = Session(Place(host, token_file, tlscacert, tlscert, tlskey), context_name)
    context.call_on_close(session.close)


_VERSION_COLUMNS: Final = (
    Column("CLIENT", lambda versions: versions["client"]),
    Column("SERVER", lambda versions: versions["server"]),
)


@APP.command("version", epilog="Example: volplug version --format '{{.Server}}'")
def show_version(context: typer.Context, chosen: FormatOption = "table") -> None:
    """Show the versions of this command and of the volplug that it calls."""
    session = session_of(context)
    shown = Shown(chosen, _VERSION_COLUMNS, session.terminal)
    try:
        server, failure = session.unchecked_client().version(), None
    except VolplugError as error:
        server, failure = None, error
    shown.list([{"client": __version__, "server": server or ""}])
    if failure is not None:
        raise failure


@APP.command("completion", epilog="Example: volplug completion bash >/etc/bash_completion.d/volplug")
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", hidden=True)],
) -> None:
    """Print the script that completes commands in a shell."""
    if shell not in _SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", f"Write {', '.join(_SHELLS)}")
    os.environ[_COMPLETE_VARIABLE] = f"source_{shell}"
    _complete()
