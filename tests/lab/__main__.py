"""`python -m tests.lab up --hosts 2`: hosts to play with, each with a Docker Engine and a volplug.

What may happen to hosts happens to these when it is typed: `kill a`, `freeze b`, and so on.
"""

import argparse
import os
import shlex
import signal
import string
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.host import Host, Hosts
from tests.lab.printing import Printer
from tests.lab.programs import CommandError, find_program

_MOST_HOSTS = 8
_EVENTS: dict[str, Callable[[Host], None]] = {
    "kill": Host.kill,
    "boot": Host.power_on,
    "reboot": Host.reboot,
    "freeze": Host.freeze,
    "thaw": Host.thaw,
    "cut": Host.partition,
    "heal": Host.heal,
}


def main(argv: list[str]) -> int:
    """Bring the hosts up and keep them until Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    up = parser.add_subparsers(required=True).add_parser(
        "up", help="bring hosts up and keep them until Ctrl-C"
    )
    up.add_argument("--hosts", type=int, choices=range(1, _MOST_HOSTS + 1), default=2, help="how many")
    arguments = parser.parse_args(argv)
    show = Printer(sys.stdout)
    if os.geteuid() != 0:
        show.failure("hosts need root: they start Docker Engines and mount volumes.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Hosts(*string.ascii_lowercase[: arguments.hosts]) as hosts:
            hosts.power_on()
            _explain(show, hosts)
            _obey(show, hosts)
    except KeyboardInterrupt:
        show.text("\nThe hosts and all they made are removed.")
    return 0


def _explain(show: Printer, hosts: Hosts) -> None:
    show.headline("These hosts run now; each command runs what follows it on its host:")
    for host in hosts:
        show.text(
            f"  {_write_entry(hosts.directory, host)}  # {host.address()}, volplug says {host.volplug.log}"
        )
    example = shlex.join(["docker", "run", "--rm", "-it", "--volume-driver=volplug", "-v", "db:/data"])
    show.text(f"\nFor instance:\n  {hosts.directory}/on-a {example} busybox:local sh")
    show.text(
        f"\nType what is to happen to a host ({', '.join(_EVENTS)}), such as `kill a`; Ctrl-C ends it all."
    )


def _obey(show: Printer, hosts: Hosts) -> None:
    names = {host.name for host in hosts}
    for line in sys.stdin:
        event, _, name = line.strip().partition(" ")
        if event not in _EVENTS or name not in names:
            show.text(f"say one of {', '.join(_EVENTS)}, and one of {', '.join(sorted(names))}")
            continue
        try:
            _EVENTS[event](hosts[name])
        except (AssertionError, CommandError, RuntimeError) as error:
            show.text(f"that does not work now: {error}")
        else:
            _write_entry(hosts.directory, hosts[name])
            show.text(f"{event} {name}: done")
    signal.pause()


def _write_entry(directory: Path, host: Host) -> Path:
    """Write the command that runs a program on a host; it is another one after each boot."""
    entry = directory / f"on-{host.name}"
    if host.is_on:
        first = f"/proc/{host.engine.first_pid}"
        enter = [
            find_program("nsenter"),
            f"--target={host.engine.first_pid}",
            "--mount",
            "--net",
            "--uts",
            "--pid",
        ]
        enter += [f"--root={first}/root", f"--wd={first}/root"]
        clean = [
            "env",
            "--unset=DOCKER_HOST",
            "--unset=DOCKER_CONTEXT",
            f"DOCKER_CONFIG={host.directory}/cli",
        ]
        entry.write_text(f'#!/bin/sh\nexec {shlex.join([*clean, *enter])} -- "$@"\n')
    else:
        entry.write_text(f"#!/bin/sh\necho 'host {host.name} is off' >&2\nexit 1\n")
    entry.chmod(0o755)
    return entry


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
