"""`volplug cluster`: begins a cluster, joins one, admits other hosts, leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from volplug.api.client import Json
from volplug.api.client_errors import UsageError
from volplug.cli.arguments import FormatOption, session_of
from volplug.cli.formats import Shown
from volplug.cli.session import Session
from volplug.cli.tables import Column
from volplug.cli.units import age

CLUSTER: Final = typer.Typer(no_args_is_help=True)
_LIFE: Final = {True: "live", False: "absent", None: "unknown"}
_COLUMNS: Final = (
    Column("NAME", lambda node: node["name"]),
    Column("ADDRESS", lambda node: node["address"]),
    Column("STATE", lambda node: _LIFE[node["is_live"]]),
    Column("SINCE", lambda node: age(node["since"]) if node["since"] else ""),
    Column("VERSION", lambda node: node["version"] or ""),
    Column("SIGNER", lambda node: "yes" if node["is_signer"] else ""),
    Column("FINGERPRINTS", lambda node: ", ".join(node["fingerprints"]), is_wide=True),
)


@CLUSTER.command("init", epilog="Example: volplug cluster init")
def init(context: typer.Context) -> None:
    """Begin a cluster with this host, and print the command that makes the next host a member.

    The settings name its address and etcd; without etcd, the configuration file lists the nodes. The key
    of the cluster's authority stays on this host.
    """
    session = session_of(context)
    _tell_line(session, session.client.post("cluster"))


@CLUSTER.command("token", epilog="Example: volplug cluster token")
def make_token(context: typer.Context) -> None:
    """Print the command that makes one more host a member, within 15 minutes."""
    session = session_of(context)
    _tell_line(session, session.client.post("cluster", "tokens"))


def _tell_line(session: Session, line: Json) -> None:
    authority = f"sha256:{line['authority']}"
    if line["token"] is None:
        session.terminal.tell(f"The authority's certificate is {authority}. List the nodes in [nodes.NAME].")
        return
    session.terminal.tell("Run this on one other host within 15 minutes:")
    session.terminal.write(
        f"volplug cluster join {line['address']} --token {line['token']} --authority {authority}"
    )


@CLUSTER.command(
    "join", epilog="Example: volplug cluster join 10.0.0.5:7443 --token TOKEN --authority sha256:HEX"
)
def join(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", hidden=True)],
    token: Annotated[str, typer.Option("--token", metavar="TOKEN", help="For one host.")],
    authority: Annotated[str, typer.Option("--authority", metavar="sha256:HEX", help="Whom to trust there.")],
) -> None:
    """Make this host a member: volplug cluster init or token prints the whole command."""
    session = session_of(context)
    body = {"address": address, "token": token, "authority": authority}
    session.terminal.write(session.client.post("cluster", "join", body=body)["node"])


@CLUSTER.command("show", epilog="Example: volplug cluster show")
def show(context: typer.Context, chosen: FormatOption = "table") -> None:
    """Show the members of this host's cluster."""
    session = session_of(context)
    cluster = session.client.get("cluster")
    shown = Shown(chosen, _COLUMNS, session.terminal)
    shown.list(cluster["nodes"] if shown.is_table else [cluster])
    if not cluster["is_current"]:
        session.terminal.tell("etcd does not answer: these are the members that were read last.")


@CLUSTER.command("leave", epilog="Example: volplug cluster leave")
def leave(context: typer.Context) -> None:
    """End this host's membership."""
    session_of(context).client.delete("cluster")


@CLUSTER.command("certificate", epilog="Example: volplug cluster certificate node2 --directory node2")
def make_certificate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NODE", hidden=True)],
    directory: Annotated[
        str, typer.Option("--directory", metavar="DIRECTORY", help="A new one; by default the node's name.")
    ] = "",
) -> None:
    """Make the identity of a node that the configuration file lists, in a new directory.

    It becomes the directory cluster in that node's state directory. The fingerprint is printed.
    """
    session = session_of(context)
    made = Path(directory or name)
    if made.exists():
        raise UsageError(f"{made} exists", "Name a new directory by --directory")
    issued = session.client.post("cluster", "certificates", body={"name": name})
    made.mkdir(mode=0o700, parents=True)
    for file, text in issued["files"].items():
        _write(made / os.path.basename(file), text)
    session.terminal.write(f"sha256:{issued['fingerprint']}")


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
