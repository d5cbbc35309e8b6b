"""Hosts on one cloud, and operations of tests on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.follow.backend import FollowBackend
from tests.follow.watch import Watch, mounted
from tests.lab import checker
from tests.lab.checker import Checker, acknowledgements
from tests.lab.host import Host, Hosts
from tests.lab.waiting import wait_until

IMAGE = "busybox:local"
TIMEOUT_S = 60.0
# For modules that take about two minutes together: they share the hosts.
HOSTS = pytest.mark.lane("follow")
# Without it, an engine that does not know the volume yet makes a local one while the cloud does not answer.
_DRIVER = ("--volume-driver=volplug",)


@dataclass(frozen=True)
class SharedHosts:
    """The hosts and the cloud that all tests of a lane share.

    Attributes:
        hosts: Two, `a` and `b`.
        cloud: The cloud of their volumes.
        settings: Settings of each host's volplug that the cloud needs.
        numbers: For the names of volumes, each used once.
    """

    hosts: Hosts
    cloud: FollowBackend
    settings: Mapping[str, Mapping[str, str]]
    numbers: Iterator[int]


class Scene:
    """The state that a module's tests share.

    Attributes:
        hosts: Two, `a` and `b`.
        cloud: The cloud of their volumes.
        watch: Checks the promises all the time.
        changed: The hosts whose volplug has other settings now.
        stopped: The hosts that the cloud does not show as running.
        volume: The name of the test's volume; another one for each test, because an engine or a volplug that
            has seen a volume may cache it for some seconds.
    """

    def __init__(self, shared_hosts: SharedHosts, watch: Watch) -> None:
        self.hosts = shared_hosts.hosts
        self.cloud = shared_hosts.cloud
        self.watch = watch
        self.changed: set[str] = set()
        self.stopped: set[str] = set()
        self._numbers = shared_hosts.numbers
        self.volume = self._new_name()

    @property
    def a(self) -> Host:
        """The first host."""
        return self.hosts["a"]

    @property
    def b(self) -> Host:
        """The second host."""
        return self.hosts["b"]

    # Volumes

    @property
    def numbers(self) -> Path:
        """The file in which checkers acknowledge records, on every host."""
        return self.hosts.directory / "checkers" / "numbers"

    def create(self, host: Host) -> None:
        """Create a volume of the cloud."""
        options = [f"--opt={key}={value}" for key, value in self.cloud.volume_options.items()]
        host.docker("volume", "create", "--driver=volplug", *options, self.volume)

    def mount(self) -> str:
        """The option of `docker run` and `docker service create` that makes the volume and uses it."""
        options = "".join(f",volume-opt={key}={value}" for key, value in self.cloud.volume_options.items())
        return f"--mount=type=volume,source={self.volume},target=/data,volume-driver=volplug{options}"

    def write(self, host: Host, *options: str) -> Checker:
        """Start a checker on a host, which continues after the last record in the volume."""
        return checker.start(host.engine, self.volume, *_DRIVER, *options, numbers=self.numbers)

    def refusal(self, host: Host) -> str:
        """The error of a failing start of a container with the volume."""
        done = host.engine.docker("run", "--rm", self.mount(), IMAGE, "true", check=False)
        assert done.returncode != 0, done
        return done.stderr

    def verify(self, host: Host) -> None:
        """Check on a host that all acknowledged records are in the volume."""
        Checker(host.engine, self.volume, IMAGE, self.numbers, _DRIVER).verify()

    def count(self) -> int:
        """How many records are acknowledged."""
        return len(acknowledgements(self.numbers))

    def downtime_s(self, before: int) -> float:
        """How long no record was acknowledged after the given number of records."""
        times = [when for _, when in acknowledgements(self.numbers)]
        return times[before] - times[before - 1]

    # Hosts

    def restart_volplug(self, host: Host, **settings: str) -> None:
        """Give a host's volplug further settings until the end of the test."""
        self.changed.add(host.name)
        host.volplug.stop()
        host.volplug.start(env=settings)

    def stop(self, host: Host) -> None:
        """Stop the instance of a host that may be dead, as an operator would; the cloud shows that."""
        host.kill()
        self.cloud.stop(host)
        self.stopped.add(host.name)

    def lose(self, host: Host) -> None:
        """Cut the power of a host, and set it to an unknown state at the cloud."""
        host.kill()
        self.cloud.make_state_unknown(host)
        self.stopped.add(host.name)

    def start(self, host: Host) -> None:
        """Boot a host again, connected and shown as running."""
        host.heal()
        if host.name in self.stopped:
            self.cloud.start(host)
        self.stopped.discard(host.name)
        host.power_on()

    def wait_until_free(self) -> None:
        """Wait until no host has the volume attached."""
        wait_until(
            lambda: not self.cloud.holders(self.volume), TIMEOUT_S, f"no host has {self.volume} attached"
        )

    # Between two tests

    def make_ready(self) -> None:
        """Restore the initial state of both hosts, without containers and volumes."""
        for host in self.hosts:
            host.thaw()
            host.heal()
            if not host.is_on:
                self.start(host)
            if host.name in self.changed or not host.volplug.running:
                host.restart_volplug()
        self.changed.clear()
        for host in self.hosts:
            containers = host.docker("ps", "--all", "--quiet").split()
            if containers:
                host.docker("rm", "--force", *containers)
        for volume in dict.fromkeys(self.cloud.volumes()):
            holder = next(iter(self.cloud.holders(volume)), "b")  # it need not linger there
            self.hosts[holder].docker("volume", "rm", volume)
        self.numbers.unlink(missing_ok=True)
        self.volume = self._new_name()

    def left(self) -> list[str]:
        """Leftovers of the last test."""
        found = [f"volume {name}" for name in self.cloud.volumes()]
        for host in self.hosts:
            found += [f"{volume} mounted on {host.name}" for volume in mounted(host)]
        return found

    def _new_name(self) -> str:
        return f"db-{next(self._numbers)}"
