"""`volplug logs`: what a maintainer needs."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from volplug.cli.arguments import session_of
from volplug.errors import HostError

LOGS: Final = typer.Typer(no_args_is_help=True)


@LOGS.callback()
def _of_logs() -> None:
    """What a maintainer needs."""


@LOGS.command("bundle", epilog="Example: volplug logs bundle --file /tmp/volplug.tar.gz")
def bundle(
    context: typer.Context,
    file: Annotated[
        str, typer.Option("--file", metavar="FILE", help="The archive; by default one in this directory.")
    ] = "",
) -> None:
    """Collect log, state, settings, versions, mounts and devices of this host in an archive, as root.

    Secrets are left out, names of volumes and hosts are not.
    """
    from volplug.cli.bundle import write_bundle  # slow to load

    session = session_of(context)
    path = Path(file or f"volplug-{platform.node()}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    try:
        write_bundle(session, path)
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}", "Name another by --file") from error
    session.terminal.write(str(path))
