"""`python -m tests.lab up --hosts 2`: hosts for experiments, each with a Docker Engine and a volplug.

They are instances of one simulated EC2, whose volumes follow containers from host to host. Typed commands
make them fail: `kill a`, `freeze b`, and so on.
"""

import argparse
import os
import shlex
import signal
import string
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.ebs import EbsCloud
from tests.lab.host import Host, Hosts
from tests.lab.printing import Printer
from tests.lab.programs import CommandError, find_program

_MOST_HOSTS = 8
_EXAMPLE = "docker run --rm -it --volume-driver=volplug -v db:/data busybox:local sh"


def _stop(host: Host, cloud: EbsCloud) -> None:
    host.kill()
    cloud.stop(host)


def _boot(host: Host, cloud: EbsCloud) -> None:
    cloud.start(host)
    host.power_on()


_EVENTS: dict[str, tuple[str, Callable[[Host, EbsCloud], None]]] = {
    "kill": ("its power is cut; EC2 still shows it as running", lambda host, cloud: host.kill()),
    "stop": ("its instance is stopped, and EC2 shows that", _stop),
    "boot": ("its power is back", _boot),
    "freeze": ("all its processes stop", lambda host, cloud: host.freeze()),
    "thaw": ("they continue", lambda host, cloud: host.thaw()),
    "cut": ("it is disconnected from EC2 and from its peers", lambda host, cloud: host.partition()),
    "heal": ("it is connected again", lambda host, cloud: host.heal()),
}


def main(argv: list[str]) -> int:
    """Start the hosts and keep them until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    up = parser.add_subparsers(required=True).add_parser("up", help="start hosts and keep them until Ctrl-C")
    up.add_argument("--hosts", type=int, choices=range(1, _MOST_HOSTS + 1), default=2, help="how many")
    arguments = parser.parse_args(argv)
    show = Printer(sys.stdout)
    if os.geteuid() != 0:
        show.failure("hosts need root: they start Docker Engines and mount volumes.")
        return 2
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell starts programs in the background without SIGINT
        signal.signal(each, signal.default_int_handler)
    try:
        with Hosts(*string.ascii_lowercase[: arguments.hosts]) as hosts, EbsCloud(hosts) as cloud:
            try:
                hosts.power_on({host.name: cloud.settings(host) for host in hosts})
                _explain(show, hosts)
                _execute(show, hosts, cloud)
            finally:
                hosts.close()  # before the cloud removes its devices
    except KeyboardInterrupt:
        show.text("\nThe hosts and everything on them are removed.")
    return 0


def _explain(show: Printer, hosts: Hosts) -> None:
    show.headline("These hosts are running; each command runs its arguments on its host:")
    for host in hosts:
        entry = _write_entry(hosts.directory, host)
        show.text(f"  {entry}  # {host.address()}; volplug's log: {host.volplug.log}")
    show.text(f"\nFor instance, on one host after the other:\n  {hosts.directory}/on-a {_EXAMPLE}")
    show.text("\nType an event and a host, such as `kill a`:")
    for event, (meaning, _) in _EVENTS.items():
        show.text(f"  {event:6}  {meaning}")
    show.text("Ctrl-C ends and removes everything.")


def _execute(show: Printer, hosts: Hosts, cloud: EbsCloud) -> None:
    names = {host.name for host in hosts}
    for line in sys.stdin:
        event, _, name = line.strip().partition(" ")
        if event not in _EVENTS or name not in names:
            show.text(f"say one of {', '.join(_EVENTS)}, and one of {', '.join(sorted(names))}")
            continue
        try:
            _EVENTS[event][1](hosts[name], cloud)
        except (AssertionError, CommandError, RuntimeError) as error:
            show.text(f"not possible now: {error}")
        else:
            _write_entry(hosts.directory, hosts[name])
            show.text(f"{event} {name}: done")
    signal.pause()


def _write_entry(directory: Path, host: Host) -> Path:
    """Write the command that runs a program on a host; it changes with each boot."""
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
