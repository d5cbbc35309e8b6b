"""The promises that hold at every moment: a volume is mounted on one host at most, which the cloud knows."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.follow.backend import FollowBackend
from tests.lab import loops, power
from tests.lab.host import Host, Hosts

_EVERY_S = 0.01


class Watch:
    """Looks at what is mounted on the hosts, again and again, and at everything when it is asked to.

    Attributes:
        broken: What was seen that must never be.
    """

    def __init__(self, hosts: Hosts, cloud: FollowBackend) -> None:
        """Describe it; it looks as long as it is entered."""
        self._hosts = hosts
        self._cloud = cloud
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again)
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self, *volumes: str) -> None:
        """No promise was broken until now, and exactly these volumes exist, each once.

        Whoever has one mounted has it attached, and what containers have mounted counts as well.
        """
        assert self._cloud.volumes() == sorted(volumes), "volumes are lost or doubled"
        for host in self._hosts:
            for volume in mounted(host):
                holders = self._cloud.holders(volume)
                if volume in mounted(host):
                    assert holders == {host.name}, f"{volume} is mounted on {host.name}"
        shared = [name for name, count in Counter(self._disks_in_use()).items() if count > 1]
        assert not shared, f"mounted on several hosts: {shared}"
        assert not self.broken, self.broken

    def _disks_in_use(self) -> Iterable[str]:
        """The images that are mounted, once for each host that has them, by whatever device."""
        images = {device.name: device.image for device in loops.attached_below(self._hosts.directory)}
        for host in self._hosts:
            yield from {images[device] for device in _devices(host) if device in images}

    def _look_again_and_again(self) -> None:
        while not self._ended.wait(_EVERY_S):
            seen = [(host, mounted(host)) for host in self._hosts]
            for volume, count in Counter(name for _, names in seen for name in names).items():
                # Looked at one after the other: it may have moved from one to the other in between.
                still = [
                    host.name for host, names in seen if names.get(volume, "") == mounted(host).get(volume)
                ]
                if count > 1 and len(still) > 1:
                    self.broken.append(f"{volume} was mounted on {still} at once")


def mounted(host: Host) -> dict[str, str]:
    """The volumes that a host's volplug has mounted, with what tells this mount from an earlier one."""
    if not host.is_on:
        return {}
    root = f"{host.volplug.mount_root}/"
    found = {}
    with contextlib.suppress(OSError, AssertionError):  # it loses its power right now
        for line in Path(f"/proc/{host.engine.first_pid}/mountinfo").read_text().splitlines():
            number, _, device, _, place = line.split()[:5]
            if place.startswith(root):
                found[Path(place).relative_to(root).parts[0]] = f"{number} {device}"
    return found


def _devices(host: Host) -> set[str]:
    """The loop devices that are mounted anywhere on a host, in its containers as well."""
    if not host.is_on:
        return set()
    namespaces: dict[str, int] = {}
    for pid in [host.engine.first_pid, *power.processes(host.engine.first_pid)]:
        with contextlib.suppress(OSError):
            namespaces.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
    found: set[str] = set()
    for pid in namespaces.values():
        with contextlib.suppress(OSError):
            found |= {f"/dev/loop{device.partition(':')[2]}" for device, _ in power.loop_mounts(pid)}
    return found
